"""The client before a server that asks everyone who they are, over TLS. DAYBOOK_CERTS has `ca.crt`,
`client.crt` and `client.key` (of the user admin) and `admin-password`; DAYBOOK_URL is https://…"""

import os
import sys
from pathlib import Path

from cases import Client, NewEvent, StreamState, error
from uuid import uuid4

CERTS = Path(os.environ["DAYBOOK_CERTS"])
ADDRESS = "localhost:" + os.environ["DAYBOOK_URL"].rsplit(":", 1)[1]
PASSWORD = (CERTS / "admin-password").read_text().strip()


def connect(credentials: str, more: str = "") -> Client:
    return Client(f"esdb://{credentials}{ADDRESS}?tls=true&tlsCaFile={CERTS / 'ca.crt'}{more}")


def refused(client: Client) -> bool:
    """Whether the client is not believed."""
    try:
        client.append_to_stream(
            str(uuid4()), current_version=StreamState.ANY, events=[NewEvent("Happened", b"{}")]
        )
    except error("Unauthenticated"):
        return True
    return False


def main() -> int:
    name, sent = f"secure-{uuid4()}", [NewEvent("Happened", b"{}") for _ in range(3)]
    done = []

    def check(what: str, holds: bool) -> None:
        done.append(holds)
        print(f"{'ok     ' if holds else 'FAILED '} python-secure: {what}")

    with connect(f"admin:{PASSWORD}@") as client:
        client.append_to_stream(name, current_version=StreamState.NO_STREAM, events=sent)
        read = [each.id for each in client.get_stream(name)]
        check("a login and its password append and read", read == [each.id for each in sent])
    with connect("admin:wrong@") as client:
        check("a wrong password does neither", refused(client))
    files = f"&userCertFile={CERTS / 'client.crt'}&userKeyFile={CERTS / 'client.key'}"
    with connect(f"admin:{PASSWORD}@", files) as client:
        check("a client certificate beside it", len(client.get_stream(name)) == 3)
    print(f"{sum(done)} passed, {len(done) - sum(done)} failed")
    return 0 if all(done) else 1


sys.exit(main())
