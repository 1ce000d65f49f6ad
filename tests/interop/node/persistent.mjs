// Persistent subscriptions with the Node client: every call, and what its own tests rely on.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";

import { connect, event, events, fails, ids, isOld, lib, stream, test } from "./cases.mjs";

const { END, PARK, RETRY, SKIP, START } = lib;
const toStream = lib.persistentSubscriptionToStreamSettingsFromDefaults;
const toAll = lib.persistentSubscriptionToAllSettingsFromDefaults;
// Milliseconds after which a state that was waited for is a failure.
const PATIENCE = 30_000;

const group = () => `group-${randomUUID()}`;

/** What `reached` answers once it answers something. */
async function until(what, reached) {
  const end = Date.now() + PATIENCE;
  while (Date.now() < end) {
    const found = await reached();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`waited too long: ${what}`);
}

/** The next `count` messages, each handed to `answer`. Then the consumer goes, and what was answered last
 * may be lost with it: an `answer` that matters waits for its effect. */
async function take(subscription, count, answer = (each) => subscription.ack(each)) {
  const found = [];
  for await (const each of subscription) {
    found.push(each);
    await answer(each, found.length - 1);
    if (found.length === count) break;
  }
  // To stop iterating leaves the call open.
  await subscription.unsubscribe();
  return found;
}

test("a group of a stream delivers its history", async (client) => {
  const [name, reader, sent] = [stream(), group(), events(5)];
  await client.appendToStream(name, sent);
  await client.createPersistentSubscriptionToStream(name, reader, toStream({ startFrom: START }));
  const found = await take(client.subscribeToPersistentSubscriptionToStream(name, reader), 5);
  assert.deepEqual(ids(found), ids(sent));
  assert.deepEqual(found.map((each) => each.retryCount), [0, 0, 0, 0, 0]);
});

test("a group begins where it was told", async (client) => {
  const [name, sent] = [stream(), events(4)];
  await client.appendToStream(name, sent);
  const later = events(2);
  const wanted = [[START, [...sent, ...later]], [2n, [...sent.slice(2), ...later]], [END, later]];
  const readers = [];
  for (const [startFrom] of wanted) {
    const reader = group();
    readers.push(reader);
    await client.createPersistentSubscriptionToStream(name, reader, toStream({ startFrom }));
  }
  await client.appendToStream(name, later);
  for (const [n, [, expected]] of wanted.entries()) {
    const subscription = client.subscribeToPersistentSubscriptionToStream(name, readers[n]);
    assert.deepEqual(ids(await take(subscription, expected.length)), ids(expected));
  }
});

test("a group of the whole log has a filter, or system events too", async (client) => {
  const [type, filtered, whole] = [`Kind${randomUUID()}`, group(), group()];
  await client.createPersistentSubscriptionToAll(filtered, toAll({ startFrom: END }), {
    filter: lib.eventTypeFilter({ prefixes: [type] }),
  });
  await client.createPersistentSubscriptionToAll(whole, toAll({ startFrom: START }));
  const sent = [event(type), event(type)];
  await client.appendToStream(stream(), [event(), sent[0], event(), sent[1]]);
  const found = await take(client.subscribeToPersistentSubscriptionToAll(filtered), 2);
  assert.deepEqual(ids(found), ids(sent));
  const all = await take(client.subscribeToPersistentSubscriptionToAll(whole), 7);
  assert.ok(all.some((each) => each.event.type.startsWith("$")), "system events");
});

test("each answer has its effect", async (client) => {
  const [name, reader, sent] = [stream(), group(), events(3)];
  await client.appendToStream(name, sent);
  const settings = toStream({ startFrom: START });
  await client.createPersistentSubscriptionToStream(name, reader, settings);
  const open = () => client.subscribeToPersistentSubscriptionToStream(name, reader, { bufferSize: 1 });
  const subscription = open();
  const answers = [
    (each) => subscription.nack(RETRY, "again", each),
    (each) => subscription.nack(SKIP, "unwanted", each),
    (each) => subscription.nack(PARK, "broken", each),
    (each) => subscription.ack(each),
  ];
  const info = () => client.getPersistentSubscriptionToStreamInfo(name, reader);
  const found = await take(subscription, 4, async (each, n) => {
    await answers[n](each);
    if (n < 3) return;
    await until("all is answered", async () => (await info()).stats.totalItems === 3n);
  });
  assert.deepEqual(ids(found), [sent[0].id, sent[0].id, sent[1].id, sent[2].id]);
  assert.deepEqual(found.map((each) => each.retryCount), [0, 1, 0, 0]);
  await until("it is parked", async () => (await info()).stats.parkedMessageCount === 1n);
  await client.replayParkedMessagesToStream(name, reader, { stopAt: 1 });
  const replays = open();
  const [replayed] = await take(replays, 1, async (each) => {
    await replays.ack(each);
    await until("nothing is parked", async () => (await info()).stats.parkedMessageCount === 0n);
  });
  assert.equal(replayed.event.id, sent[1].id);
});

test("parked messages of the whole log are replayed", async (client) => {
  const [type, reader] = [`Kind${randomUUID()}`, group()];
  await client.createPersistentSubscriptionToAll(reader, toAll({ startFrom: END }), {
    filter: lib.eventTypeFilter({ prefixes: [type] }),
  });
  const sent = event(type);
  await client.appendToStream(stream(), [sent]);
  const subscription = client.subscribeToPersistentSubscriptionToAll(reader);
  const info = () => client.getPersistentSubscriptionToAllInfo(reader);
  await take(subscription, 1, async (each) => {
    await subscription.nack(PARK, "broken", each);
    await until("it is parked", async () => (await info()).stats.parkedMessageCount === 1n);
  });
  await client.replayParkedMessagesToAll(reader);
  const [replayed] = await take(client.subscribeToPersistentSubscriptionToAll(reader), 1);
  assert.equal(replayed.event.id, sent.id);
});

test("groups are described, listed, changed and deleted", async (client) => {
  const [name, reader] = [stream(), group()];
  const missing = lib.PersistentSubscriptionDoesNotExistError;
  await fails(missing, client.getPersistentSubscriptionToStreamInfo(name, reader));
  await fails(missing, client.listPersistentSubscriptionsToStream(name));
  await fails(missing, client.deletePersistentSubscriptionToStream(name, reader));
  await fails(missing, client.updatePersistentSubscriptionToStream(name, reader, toStream()));
  const settings = toStream({ startFrom: START, consumerStrategyName: "Pinned" });
  await client.createPersistentSubscriptionToStream(name, reader, settings);
  await fails(
    lib.PersistentSubscriptionExistsError,
    client.createPersistentSubscriptionToStream(name, reader, settings),
  );
  const found = await client.getPersistentSubscriptionToStreamInfo(name, reader);
  assert.equal(found.groupName, reader);
  assert.equal(found.settings.consumerStrategyName, "Pinned");
  assert.equal(found.settings.startFrom, START);
  const listed = await client.listPersistentSubscriptionsToStream(name);
  assert.deepEqual(listed.map((each) => each.groupName), [reader]);
  const all = await client.listAllPersistentSubscriptions();
  assert.ok(all.some((each) => each.groupName === reader));
  const changed = toStream({ startFrom: 3n, maxRetryCount: 7, consumerStrategyName: "RoundRobin" });
  await client.updatePersistentSubscriptionToStream(name, reader, changed);
  const after = await client.getPersistentSubscriptionToStreamInfo(name, reader);
  assert.deepEqual([after.settings.maxRetryCount, after.settings.startFrom], [7, 3n]);
  await client.deletePersistentSubscriptionToStream(name, reader);
  await fails(missing, client.getPersistentSubscriptionToStreamInfo(name, reader));
  const ofAll = group();
  await client.createPersistentSubscriptionToAll(ofAll, toAll({ startFrom: START }));
  const listedOfAll = await client.listPersistentSubscriptionsToAll();
  assert.ok(listedOfAll.some((each) => each.groupName === ofAll));
  await client.updatePersistentSubscriptionToAll(ofAll, toAll({ startFrom: END }));
  await client.deletePersistentSubscriptionToAll(ofAll);
});

test("consumers hear why they were let go of", async (client) => {
  const [name, reader] = [stream(), group()];
  const settings = toStream({ startFrom: START, maxSubscriberCount: 1 });
  await client.createPersistentSubscriptionToStream(name, reader, settings);
  const consume = () => {
    const subscription = client.subscribeToPersistentSubscriptionToStream(name, reader);
    return { subscription, ended: (async () => { for await (const _ of subscription); })() };
  };
  const confirmed = ({ subscription }) =>
    new Promise((resolve) => subscription.on("confirmation", resolve));
  const first = consume();
  await confirmed(first);
  await fails(lib.PersistentSubscriptionMaximumSubscribersReachedError, consume().ended);
  const dropped = fails(lib.PersistentSubscriptionDroppedError, first.ended);
  await client.restartPersistentSubscriptionSubsystem();
  await dropped;
  const second = consume();
  await confirmed(second);
  const deleted = fails(lib.PersistentSubscriptionDoesNotExistError, second.ended);
  await client.deletePersistentSubscriptionToStream(name, reader);
  await deleted;
  await fails(lib.PersistentSubscriptionDoesNotExistError, consume().ended);
});

test("bad settings are refused", async (client) => {
  const refused = lib.PersistentSubscriptionFailedError;
  const wrong = toStream({ startFrom: START, readBatchSize: 500, historyBufferSize: 500 });
  await fails(refused, client.createPersistentSubscriptionToStream(stream(), group(), wrong));
});
