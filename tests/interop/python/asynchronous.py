"""The same server through the Python client's asyncio half, which speaks gRPC in its own way."""

from __future__ import annotations

import asyncio

from cases import (
    PACKAGE,
    StreamState,
    case,
    client_package,
    equal,
    error,
    events,
    ids,
    stream,
    uri,
)

AsyncClient = getattr(
    client_package, "AsyncKurrentDBClient", getattr(client_package, "AsyncEventStoreDBClient", None)
)
assert AsyncClient is not None, f"{PACKAGE} has no asyncio client"


async def connected() -> AsyncClient:
    client = AsyncClient(uri())
    await client.connect()
    return client


@case
def the_asynchronous_client_appends_reads_and_is_refused(_client):
    async def run():
        client = await connected()
        try:
            name, sent = stream(), events(20)
            position = await client.append_to_stream(
                name, current_version=StreamState.NO_STREAM, events=sent
            )
            again = await client.append_to_stream(
                name, current_version=StreamState.NO_STREAM, events=sent
            )
            equal(again, position, "the position of a retry")
            equal(ids(await client.get_stream(name)), ids(sent))
            backwards = await client.get_stream(name, backwards=True, limit=3)
            equal(ids(backwards), ids(sent)[:-4:-1])
            for wanted, call in [
                ("WrongCurrentVersion", client.append_to_stream(
                    name, current_version=3, events=events(1))),
                ("NotFound", client.get_stream(stream())),
                ("NotFound", client.delete_stream(stream(), current_version=StreamState.ANY)),
            ]:
                try:
                    await call
                    raise AssertionError(f"{wanted} was not raised")
                except error(wanted):
                    pass
            # Many at once over one connection.
            names = [stream() for _ in range(50)]
            await asyncio.gather(*(
                client.append_to_stream(
                    each, current_version=StreamState.NO_STREAM, events=events(2)
                )
                for each in names
            ))
            found = await asyncio.gather(*(client.get_stream(each) for each in names))
            equal([len(each) for each in found], [2] * 50)
        finally:
            await client.close()

    asyncio.run(run())


@case
def the_asynchronous_client_follows(_client):
    async def run():
        client = await connected()
        try:
            name, sent = stream(), events(5)
            subscription = await client.subscribe_to_stream(name)
            everything = await client.subscribe_to_all(from_end=True)
            await client.append_to_stream(
                name, current_version=StreamState.NO_STREAM, events=sent
            )
            for each in (subscription, everything):
                found = []
                async for recorded in each:
                    found.append(recorded)
                    if len(found) == 5:
                        break
                equal(ids(found), ids(sent))
                await each.stop()
        finally:
            await client.close()

    asyncio.run(run())
