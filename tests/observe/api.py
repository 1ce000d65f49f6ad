"""What /openapi.json says: that it is OpenAPI 3.1, and that a running server answers so.

    api.py        starts DAYBOOK_BIN on a directory below SCRATCH; needs openapi-spec-validator

Each route that is read without naming anything is asked, and its answer held against its schema.
The last line counts the checks that passed and failed.
"""

import json
import os
import re
import subprocess
import urllib.error
import urllib.request

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

# What a parameter that must be given is given, by route.
GIVEN = {"/v1/events": "?type=Ordered"}
EVENT = json.dumps({"type": "Ordered", "data": {"number": 1}, "metadata": {"by": "api.py"}})

counts = {"passed": 0, "failed": 0}


def outcome(name, faults):
    counts["failed" if faults else "passed"] += 1
    print(f"{'FAILED ' if faults else 'ok     '} {name}")
    for fault in faults[:5]:
        print(f"        {fault}")


def ask(url, method="GET", body=None):
    headers = {"content-type": "application/json"} if body else {}
    data = body.encode() if body else None
    request = urllib.request.Request(url, method=method, data=data, headers=headers)
    try:
        answer = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as refused:
        answer = refused
    kind = answer.headers.get("content-type", "").split(";")[0]
    return str(answer.status), kind, answer.read()


def faults_of(api, path, answer):
    status, kind, body = answer
    said = api["paths"][path]["get"]["responses"].get(status)
    if said is None:
        return [f"{status} is not described"]
    if not kind:
        return []
    content = said.get("content", {}).get(kind)
    if content is None:
        return [f"{status} with {kind} is not described"]
    if not kind.endswith("json"):
        return []
    schema = {**content.get("schema", {}), "components": api["components"]}
    errors = Draft202012Validator(schema).iter_errors(json.loads(body))
    return [f"{list(error.path)}: {error.message[:200]}" for error in errors]


def main():
    data = os.path.join(os.environ["SCRATCH"], "data")
    command = [os.environ["DAYBOOK_BIN"], "serve", "--data", data, "--listen", "127.0.0.1:0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        found = (re.search(r'"url":"(http[^"]+)"', line) for line in server.stderr)
        url = next(match.group(1) for match in found if match)
        check(url)
    finally:
        server.terminate()
        server.communicate(timeout=30)
    print(f"{counts['passed']} passed, {counts['failed']} failed")


def check(url):
    api = json.loads(ask(f"{url}/openapi.json")[2])
    try:
        validate(api, cls=OpenAPIV31SpecValidator)
        outcome("the description is valid OpenAPI 3.1", [])
    except Exception as invalid:  # whatever the validator finds
        outcome("the description is valid OpenAPI 3.1", [str(invalid)[:500]])
    status, _, body = ask(f"{url}/v1/streams/orders-1", "POST", EVENT)
    outcome("an event is appended", [] if status == "200" else [body])
    named = {"/v1/streams/{name}": "/v1/streams/orders-1",
             "/v1/streams/{name}/metadata": "/v1/streams/orders-1/metadata",
             "/v1/index/{kind}/{key}": "/v1/index/type/Ordered"}
    for path, item in api["paths"].items():
        if "get" not in item or path.endswith("subscribe") or (path not in named and "{" in path):
            continue
        asked = named.get(path, path) + GIVEN.get(path, "")
        outcome(f"GET {path} answers as described", faults_of(api, path, ask(url + asked)))


if __name__ == "__main__":
    main()
