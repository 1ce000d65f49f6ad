// Appends to several streams at once, and checks of others.

import assert from "node:assert/strict";

import { Client, collect, event, events, fails, ids, isOld, lib, stream, test } from "./cases.mjs";

const { ANY, NO_STREAM, STREAM_EXISTS } = lib;

// Older clients append to one stream at a time.
const several = Client.prototype.appendRecords !== undefined && !isOld;

if (several) {
  const read = (client, name) => collect(client.readStream(name));
  const record = (streamName, type, more) => ({ streamName, record: event(type, { a: 1 }, more) });

  test("a session appends to many streams or none", async (client) => {
    const [first, second] = [stream(), stream()];
    const asked = [
      { streamName: first, expectedState: NO_STREAM, events: events(3) },
      {
        streamName: second,
        expectedState: ANY,
        events: [event("Opened", { a: 1 }, { metadata: { who: "ada" } })],
      },
    ];
    const done = await client.multiStreamAppend(asked);
    assert.deepEqual(done.responses, [
      { streamName: first, revision: 2n },
      { streamName: second, revision: 0n },
    ]);
    assert.deepEqual(ids(await read(client, first)), ids(asked[0].events));
    const [found] = await read(client, second);
    assert.equal(found.event.type, "Opened");
    assert.equal(found.event.metadata.who, "ada");
    assert.equal(found.event.metadata["$schema.format"], "Json");
    assert.equal(found.event.position.commit, done.position);
    assert.deepEqual(await client.multiStreamAppend(asked), done);

    const conflict = await fails(lib.WrongExpectedVersionError, client.multiStreamAppend([
      { streamName: second, expectedState: 0n, events: [event()] },
      { streamName: first, expectedState: 7n, events: [event()] },
    ]));
    assert.equal(conflict.streamName, first);
    assert.equal(conflict.actualState ?? conflict.actualVersion, 2n);
    assert.equal(conflict.expectedState ?? conflict.expectedVersion, 7n);
    assert.equal((await read(client, second)).length, 1);
  });

  test("a session tells what is wrong with it", async (client) => {
    const [name, gone] = [stream(), stream()];
    await client.appendToStream(gone, event());
    await client.tombstoneStream(gone);
    const append = (streamName, appended) =>
      client.multiStreamAppend([{ streamName, expectedState: ANY, events: appended }]);
    const tombstoned = await fails(lib.StreamTombstonedError, append(gone, [event()]));
    assert.equal(tombstoned.stream, gone);
    const data = Buffer.alloc(16 * 1024 * 1024);
    const large = lib.binaryEvent({ type: "Large", data });
    const refused = await fails(lib.AppendRecordSizeExceededError, append(name, [large]));
    assert.deepEqual([refused.stream, refused.recordId], [name, large.id]);
    assert.equal(refused.maxSize, 16 * 1024 * 1024);
    await fails(lib.StreamNotFoundError, read(client, name));
  });

  test("records interleave, and checks cover other streams", async (client) => {
    const [left, right, seen, soft, gone, never] = Array.from({ length: 6 }, () => stream());
    for (const name of [seen, soft, gone]) await client.appendToStream(name, events(2));
    await client.deleteStream(soft);
    await client.tombstoneStream(gone);
    const sent = [record(left), record(right), record(left)];
    const done = await client.appendRecords(sent, [
      { streamName: left, expectedState: NO_STREAM },
      { streamName: seen, expectedState: 1n },
      { streamName: soft, expectedState: 1n },
      { streamName: gone, expectedState: NO_STREAM },
    ]);
    const revisions = new Map(done.responses.map((each) => [each.streamName, each.revision]));
    assert.deepEqual(revisions, new Map([[left, 1n], [right, 0n]]));
    assert.equal((await read(client, left))[1].event.position.commit, done.position);

    const violated = await fails(lib.AppendConsistencyViolationError, client.appendRecords(
      [record(left)],
      [
        { streamName: never, expectedState: STREAM_EXISTS },
        { streamName: seen, expectedState: 1n },
        { streamName: soft, expectedState: STREAM_EXISTS },
        { streamName: gone, expectedState: 2n },
      ],
    ));
    assert.deepEqual(
      violated.violations.map((each) => [each.checkIndex, each.streamName]),
      [[0, never], [2, soft], [3, gone]],
    );
    const states = violated.violations.map((each) => each.actualState);
    assert.deepEqual(states, [NO_STREAM, -5n, -6n]);
    assert.equal((await read(client, left)).length, 2);
  });
}
