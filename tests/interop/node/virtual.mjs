// Streams that the index serves, as KurrentDB's system projections would have written them.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";

import { at, collect, event, events, fails, ids, lib, test } from "./cases.mjs";

const { ANY, BACKWARDS, END, NO_STREAM } = lib;
const category = () => `cat${randomUUID().replaceAll("-", "")}`;

test("a category lists its streams in the order of the log", async (client) => {
  const name = category();
  const sent = events(3);
  await client.appendToStream(`${name}-1`, sent[0], at(NO_STREAM));
  await client.appendToStream(`${name}-2`, sent[1], at(NO_STREAM));
  await client.appendToStream(`${name}-1`, sent[2], at(0n));
  const links = await collect(client.readStream(`$ce-${name}`));
  assert.deepEqual(
    links.map(({ event: { type, revision, data } }) => [type, revision, Buffer.from(data).toString()]),
    [["$>", 0n, `0@${name}-1`], ["$>", 1n, `0@${name}-2`], ["$>", 2n, `1@${name}-1`]],
  );
  const resolved = await collect(client.readStream(`$ce-${name}`, { resolveLinkTos: true }));
  assert.deepEqual(ids(resolved), ids(sent));
  assert.deepEqual(resolved.map((each) => each.link.revision), [0n, 1n, 2n]);
  assert.deepEqual(resolved.map((each) => each.link.id), ids(links));
  const last = await collect(client.readStream(`$ce-${name}`, {
    resolveLinkTos: true, direction: BACKWARDS, fromRevision: END, maxCount: 1,
  }));
  assert.deepEqual(ids(last), [sent[2].id]);
  await fails(lib.StreamNotFoundError, collect(client.readStream(`$ce-${category()}`)));
});

test("types and correlations are listed, and streams of a category", async (client) => {
  const [name, type, correlation] = [category(), `K${category()}`, randomUUID()];
  const sent = event(type, { a: 1 }, { metadata: { $correlationId: correlation } });
  await client.appendToStream(`${name}-1`, sent, at(NO_STREAM));
  for (const virtual of [`$et-${type}`, `$bc-${correlation}`]) {
    const found = await collect(client.readStream(virtual, { resolveLinkTos: true }));
    assert.deepEqual(ids(found), [sent.id], virtual);
  }
  const [reference] = await collect(client.readStream(`$category-${name}`));
  assert.equal(reference.event.type, "$@");
  assert.equal(Buffer.from(reference.event.data).toString(), `${name}-1`);
});

test("what a deleted stream held is a link without its event", async (client) => {
  const name = category();
  await client.appendToStream(`${name}-1`, event(), at(NO_STREAM));
  await client.deleteStream(`${name}-1`);
  const found = await collect(client.readStream(`$ce-${name}`, { resolveLinkTos: true }));
  assert.equal(found.length, 2);
  assert.equal(found[0].event, undefined);
  assert.equal(found[0].link.revision, 0n);
  assert.equal(found[1].event.type, "$metadata");
});

test("a subscriber of a category gets what comes", async (client) => {
  const name = category();
  const sent = events(3);
  await client.appendToStream(`${name}-1`, sent.slice(0, 2), at(NO_STREAM));
  const subscription = client.subscribeToStream(`$ce-${name}`, { resolveLinkTos: true });
  const found = [];
  for await (const each of subscription) {
    if (!each.event) continue;
    found.push(each.event.id);
    if (found.length === 2) await client.appendToStream(`${name}-2`, sent[2], at(NO_STREAM));
    if (found.length === 3) break;
  }
  assert.deepEqual(found, ids(sent));
});

test("nobody writes them", async (client) => {
  const name = `$ce-${category()}`;
  await fails(lib.AccessDeniedError, client.appendToStream(name, event(), at(ANY)));
  const credentials = { username: "admin", password: "changeit" };
  await fails(lib.AccessDeniedError, client.appendToStream(name, event(), { ...at(ANY), credentials }));
  await fails(lib.AccessDeniedError, client.deleteStream(name));
  await fails(lib.AccessDeniedError, client.tombstoneStream(name));
});
