// Appending, reading, deleting and describing streams with the Node client.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";

import { address, at, collect, connect, event, events, fails, ids, isOld, lib, stream, test }
  from "./cases.mjs";

const { ANY, BACKWARDS, END, FORWARDS, NO_STREAM, START, STREAM_EXISTS } = lib;
const MIB = 1024 * 1024;
// Appends go through BatchAppend, or with credentials of their own through Append.
const WAYS = [{}, { credentials: { username: "admin", password: "changeit" } }];

test("an event comes back as it was sent", async (client) => {
  const name = stream("account");
  const json = event("Opened", { owner: "Ada" }, { metadata: { $correlationId: "c1" } });
  const data = Buffer.from(Array.from({ length: 256 }, (_, n) => n));
  const binary = lib.binaryEvent({ type: "Blob", data, metadata: Buffer.from([0, 255]) });
  const before = Date.now() - 2000;
  const appended = await client.appendToStream(name, [json, binary], at(NO_STREAM));
  assert.equal(appended.success, true);
  assert.equal(appended.nextExpectedRevision, 1n);
  const [first, second] = await collect(client.readStream(name));
  assert.deepEqual(
    { ...first.event, created: undefined, position: undefined },
    {
      streamId: name, id: json.id, revision: 0n, type: "Opened", data: { owner: "Ada" },
      metadata: { $correlationId: "c1" }, isJson: true, created: undefined, position: undefined,
    },
  );
  assert.equal(second.event.isJson, false);
  assert.equal(Buffer.compare(Buffer.from(second.event.data), data), 0);
  assert.equal(Buffer.compare(Buffer.from(second.event.metadata), Buffer.from([0, 255])), 0);
  const created = new Date(second.event.created).getTime();
  assert.ok(before < created && created < before + 30_000, `created ${second.event.created}`);
  assert.equal(second.commitPosition ?? second.event.position.commit, appended.position.commit);
});

for (const way of WAYS) {
  const how = way.credentials ? "Append" : "BatchAppend";
  const append = (client, name, expected, sent = event()) =>
    client.appendToStream(name, sent, { ...at(expected), ...way });

  test(`right expected revisions are appended at (${how})`, async (client) => {
    const name = stream();
    for (const [expected, revision] of [[NO_STREAM, 0n], [0n, 1n], [ANY, 2n], [STREAM_EXISTS, 3n]]) {
      const appended = await append(client, name, expected);
      assert.equal(appended.nextExpectedRevision, revision);
      assert.ok(appended.position.commit === appended.position.prepare);
    }
  });

  test(`wrong expected revisions are refused with the right one (${how})`, async (client) => {
    const name = stream();
    const wrong = async (expected, actual) => {
      const error = await fails(lib.WrongExpectedVersionError, append(client, name, expected));
      assert.equal(error.streamName, name);
      assert.equal(error.actualState ?? error.actualVersion, actual);
      assert.equal(error.expectedState ?? error.expectedVersion, expected);
    };
    await wrong(0n, NO_STREAM);
    await wrong(STREAM_EXISTS, NO_STREAM);
    await append(client, name, NO_STREAM, events(2));
    for (const expected of [NO_STREAM, 0n, 2n, 100n]) await wrong(expected, 1n);
    const silent = connect("throwOnAppendFailure=false");
    const refused = await append(silent, name, 7n);
    assert.equal(refused.success, false);
    await silent.dispose();
  });

  test(`a retry answers what the first try did (${how})`, async (client) => {
    const name = stream();
    const sent = [events(3), events(1), events(2)];
    const states = [NO_STREAM, 2n, ANY];
    const first = [];
    for (const [n, batch] of sent.entries()) first.push(await append(client, name, states[n], batch));
    for (const [n, batch] of sent.entries()) {
      for (const state of [states[n], ANY, STREAM_EXISTS]) {
        const again = await append(client, name, state, batch);
        assert.deepEqual(again.position, first[n].position);
        assert.equal(again.nextExpectedRevision, first[n].nextExpectedRevision);
      }
    }
    assert.equal((await collect(client.readStream(name))).length, 6);
    const mixed = [...sent[2], ...events(1)];
    await fails(lib.WrongExpectedVersionError, append(client, name, ANY, mixed));
    const other = await append(client, stream(), NO_STREAM, sent[0]);
    assert.ok(other.position.commit > first[2].position.commit);
  });

  test(`a deleted stream refuses (${how})`, async (client) => {
    const name = stream();
    await client.tombstoneStream(name);
    const error = await fails(lib.StreamDeletedError, append(client, name, ANY));
    assert.equal(error.streamName, name);
    // The call is kept and used again.
    await append(client, stream(), NO_STREAM);
  });
}

test("many appends at once are answered each for itself", async (client) => {
  const names = Array.from({ length: 100 }, () => stream());
  const sent = names.map((name, n) =>
    client.appendToStream(name, events((n % 7) + 1), at(n % 10 === 9 ? 5n : NO_STREAM)));
  const answers = await Promise.allSettled(sent);
  for (const [n, answer] of answers.entries()) {
    if (n % 10 === 9) assert.ok(answer.reason instanceof lib.WrongExpectedVersionError);
    else assert.equal(answer.value.nextExpectedRevision, BigInt(n % 7));
  }
  const positions = answers.filter((a) => a.value).map((a) => a.value.position.commit);
  assert.equal(new Set(positions).size, 90);
});

test("a stream is read both ways from anywhere", async (client) => {
  const name = stream();
  const sent = events(50);
  await client.appendToStream(name, sent, at(NO_STREAM));
  const all = ids(sent);
  const read = async (options) => ids(await collect(client.readStream(name, options)));
  assert.deepEqual(await read({}), all);
  const forwards = { direction: FORWARDS, fromRevision: START };
  assert.deepEqual(await read({ ...forwards, maxCount: 10 }), all.slice(0, 10));
  assert.deepEqual(await read({ fromRevision: 20n, maxCount: 5 }), all.slice(20, 25));
  assert.deepEqual(await read({ fromRevision: 50n }), []);
  const backwards = { direction: BACKWARDS };
  assert.deepEqual(await read({ ...backwards, fromRevision: END }), [...all].reverse());
  assert.deepEqual(await read({ ...backwards, fromRevision: END, maxCount: 1 }), [all[49]]);
  assert.deepEqual(await read({ ...backwards, fromRevision: 2n }), [all[2], all[1], all[0]]);
  assert.deepEqual(await read({ ...backwards, fromRevision: 0n }), [all[0]]);
  assert.deepEqual(await read({ ...backwards, fromRevision: 999n, maxCount: 2 }), [all[49], all[48]]);
  // The newer client does not send these: it takes the end that the direction begins at.
  if (!isOld) return;
  assert.deepEqual(await read({ fromRevision: END }), []);
  assert.deepEqual(await read({ ...backwards, fromRevision: START }), [all[0]]);
});

test("$all is read both ways from anywhere", async (client) => {
  const [first] = await collect(client.readAll({ maxCount: 1 }));
  assert.ok(first.event.type.startsWith("$"), `the first record of $all is a ${first.event.type}`);
  const name = stream();
  const sent = events(10);
  const { position } = await client.appendToStream(name, sent, at(NO_STREAM));
  const all = ids(sent);
  const read = async (options) => ids(await collect(client.readAll(options)));
  const backwards = { direction: BACKWARDS };
  assert.deepEqual(await read({ ...backwards, fromPosition: END, maxCount: 10 }), [...all].reverse());
  assert.deepEqual(await read({ fromPosition: position }), [all[9]]);
  const below = await read({ ...backwards, fromPosition: position, maxCount: 9 });
  assert.deepEqual(below, [...all].reverse().slice(1));
  const everything = await collect(client.readAll());
  const positions = everything.map((each) => each.event.position.commit);
  assert.deepEqual(positions, [...new Set(positions)].sort((a, b) => (a < b ? -1 : 1)));
  const here = everything.filter((each) => each.event.streamId === name);
  const there = await collect(client.readStream(name));
  assert.deepEqual(here.map((e) => e.event.position), there.map((e) => e.event.position));
});

test("filters choose by name and type", async (client) => {
  if (isOld) return; // Its reads take none.
  const mark = randomUUID().replaceAll("-", "");
  const names = [`left${mark}-1`, `left${mark}-2`, `right${mark}-1`];
  for (const name of names) {
    const sent = [event(`Opened${mark}`), event(`Closed${mark}`), event(`$system${mark}`)];
    await client.appendToStream(name, sent, at(NO_STREAM));
  }
  const read = async (filter, options = {}) => {
    const found = await collect(client.readAll({ filter, ...options }));
    return found.map((each) => [each.event.streamId, each.event.type.replace(mark, "")])
      .filter(([name]) => name.includes(mark));
  };
  const all = names.flatMap((name) => ["Opened", "Closed", "$system"].map((kind) => [name, kind]));
  const ordinary = all.filter(([, kind]) => !kind.startsWith("$"));
  assert.deepEqual(await read(lib.excludeSystemEvents()), ordinary);
  assert.deepEqual(await read(lib.streamNameFilter({ prefixes: [`left${mark}`] })), all.slice(0, 6));
  assert.deepEqual(await read(lib.streamNameFilter({ regex: `^right${mark}` })), all.slice(6));
  assert.deepEqual(await read(lib.eventTypeFilter({ prefixes: ["Op", "Cl"] })), ordinary);
  const ahead = lib.eventTypeFilter({ regex: "^(?!(Closed.*$|\\$.*$))" });
  assert.deepEqual(await read(ahead), all.filter(([, kind]) => kind === "Opened"));
  const last = await read(lib.streamNameFilter({ prefixes: [`right${mark}`] }),
    { direction: BACKWARDS, fromPosition: END, maxCount: 2 });
  assert.deepEqual(last, [all[8], all[7]]);
});

test("links are resolved when asked", async (client) => {
  const [target, links] = [stream("target"), stream("links")];
  const sent = events(2);
  await client.appendToStream(target, sent);
  const link = (text) => lib.binaryEvent({ type: "$>", data: Buffer.from(text) });
  await client.appendToStream(links, [link(`1@${target}`), link(`0@${stream()}`), event("Plain")]);
  const bare = await collect(client.readStream(links));
  assert.deepEqual(bare.map((each) => each.event.type), ["$>", "$>", "Plain"]);
  const resolved = await collect(client.readStream(links, { resolveLinkTos: true }));
  assert.equal(resolved.length, 3);
  assert.equal(resolved[0].event.id, sent[1].id);
  assert.equal(resolved[0].link.streamId, links);
  assert.equal(resolved[1].event, undefined);
  assert.equal(resolved[1].link.revision, 1n);
  assert.equal(resolved[2].link, undefined);
});

test("what is not there is not found, what ended is deleted", async (client) => {
  const [never, soft, hard] = [stream(), stream(), stream()];
  const read = (name, options) => collect(client.readStream(name, options));
  const missing = await fails(lib.StreamNotFoundError, read(never));
  assert.equal(missing.streamName, never);
  const end = { direction: BACKWARDS, fromRevision: END, maxCount: 1 };
  await fails(lib.StreamNotFoundError, read(never, end));
  assert.equal((await client.getStreamMetadata(never)).metadata, undefined);
  for (const name of [soft, hard]) await client.appendToStream(name, events(3));

  const wrong = await fails(lib.WrongExpectedVersionError,
    client.deleteStream(soft, { expectedRevision: 7n }));
  assert.equal(wrong.actualState ?? wrong.actualVersion, 2n);
  assert.equal(wrong.expectedState ?? wrong.expectedVersion, 7n);
  const { position } = await client.deleteStream(soft, { expectedRevision: 2n });
  assert.ok(position.commit > 0n);
  await fails(lib.StreamNotFoundError, read(soft));
  const opened = await client.appendToStream(soft, event(), at(NO_STREAM));
  assert.equal(opened.nextExpectedRevision, 3n);
  assert.deepEqual((await read(soft)).map((each) => each.event.revision), [3n]);
  assert.equal((await client.getStreamMetadata(soft)).metadata.truncateBefore, 3);

  await client.tombstoneStream(hard, { expectedRevision: 2n });
  const deleted = await fails(lib.StreamDeletedError, read(hard));
  assert.equal(deleted.streamName, hard);
  await fails(lib.StreamDeletedError, client.deleteStream(hard));
  await fails(lib.StreamDeletedError, client.tombstoneStream(hard));
  await fails(lib.WrongExpectedVersionError, client.deleteStream(never));
});

test("metadata hides what it says", async (client) => {
  const name = stream();
  await client.appendToStream(name, events(10));
  const revisions = async () =>
    (await collect(client.readStream(name))).map((each) => Number(each.event.revision));
  const set = (metadata, options) => client.setStreamMetadata(name, metadata, options);
  await set({ maxCount: 3 }, at(NO_STREAM));
  assert.deepEqual(await revisions(), [7, 8, 9]);
  await set({ truncateBefore: 8, mine: "ä" }, at(0n));
  assert.deepEqual(await revisions(), [8, 9]);
  const found = await client.getStreamMetadata(name);
  assert.deepEqual(found.metadata, { truncateBefore: 8, mine: "ä" });
  await fails(lib.WrongExpectedVersionError, set({}, at(0n)));
  await set({ maxAge: 1 });
  const until = Date.now() + 10_000;
  while ((await revisions()).length > 0) {
    assert.ok(Date.now() < until, "what is older than maxAge is still there");
  }
});

test("large events and large appends", async (client) => {
  const name = stream();
  const large = lib.binaryEvent({ type: "Large", data: Buffer.alloc(MIB, 7) });
  await client.appendToStream(name, large, at(NO_STREAM));
  // Sent in parts, kept whole.
  const many = Array.from({ length: 20 }, (_, n) =>
    lib.binaryEvent({ type: "Large", data: Buffer.alloc(MIB, n) }));
  const appended = await client.appendToStream(name, many, at(0n));
  assert.equal(appended.nextExpectedRevision, 20n);
  const found = await collect(client.readStream(name));
  assert.deepEqual(found.map((each) => each.event.data.length), Array(21).fill(MIB));
  assert.deepEqual(found.slice(1).map((each) => each.event.data[MIB - 1]), many.map((_, n) => n));
  const over = Array.from({ length: 66 }, () =>
    lib.binaryEvent({ type: "Large", data: Buffer.alloc(MIB) }));
  const error = await fails(lib.MaxAppendSizeExceededError, client.appendToStream(name, over));
  assert.equal(error.maxAppendSize, 64 * MIB);
  // One message over the cap ends the call; the next append opens another.
  const huge = lib.binaryEvent({ type: "Huge", data: Buffer.alloc(17 * MIB) });
  await fails(Error, client.appendToStream(name, huge));
  const after = await client.appendToStream(name, event(), at(20n));
  assert.equal(after.nextExpectedRevision, 21n);
});

test("bad requests are refused", async (client) => {
  for (const name of ["", "x".repeat(1025), "$all"]) {
    for (const way of WAYS) {
      const error = await fails(Error, client.appendToStream(name, event(), way));
      assert.ok(!(error instanceof lib.TimeoutError), String(error));
    }
  }
  await client.appendToStream(stream(), event(), at(NO_STREAM));
});

test("the node is found by gossip", async () => {
  const local = address.replace("127.0.0.1", "localhost");
  for (const [options, where] of [
    ["", { discover: true }],
    ["nodePreference=random", { discover: true, to: local }],
    ["nodePreference=follower", { discover: true }],
    ["", { to: `${address},${local}` }],
  ]) {
    const client = connect(options, where);
    const name = stream();
    await client.appendToStream(name, event(), { ...at(NO_STREAM), requiresLeader: true });
    assert.equal((await collect(client.readStream(name, { requiresLeader: true }))).length, 1);
    await client.dispose();
  }
});
