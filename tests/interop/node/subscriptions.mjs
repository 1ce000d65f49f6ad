// Catch-up subscriptions with the Node client.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";

import { address, at, collect, connect, deferred, event, events, fails, ids, isOld, lib, stream, test }
  from "./cases.mjs";

const { END, NO_STREAM, START } = lib;

/** Follows a subscription from its events, which unlike iteration leaves it open. */
class Follower {
  constructor(subscription) {
    this.subscription = subscription;
    this.found = [];
    this.waiting = [];
    this.ended = deferred();
    this.ended.promise.catch(() => {});
    this.caughtUp = deferred();
    this.confirmed = deferred();
    subscription
      .on("data", (each) => { this.found.push(each); this.look(); })
      .on("caughtUp", (info) => this.caughtUp.resolve({ info, after: this.found.length }))
      .on("confirmation", () => this.confirmed.resolve())
      .on("error", (error) => this.ended.reject(error))
      .on("end", () => this.ended.resolve());
  }

  look() {
    this.waiting = this.waiting.filter(({ count, resolve }) => {
      if (this.found.length < count) return true;
      resolve(this.found.slice(0, count));
      return false;
    });
  }

  /** The first `count` events, as soon as there are so many. */
  first(count) {
    const { promise, resolve } = deferred();
    this.waiting.push({ count, resolve });
    this.look();
    return Promise.race([promise, this.ended.promise.then(() => promise)]);
  }
}

const follow = (subscription) => new Follower(subscription);

test("a stream is followed from its start, a revision and its end", async (client) => {
  const name = stream();
  const sent = events(5);
  await client.appendToStream(name, sent);
  const start = follow(client.subscribeToStream(name, { fromRevision: START }));
  const middle = follow(client.subscribeToStream(name, { fromRevision: 2n }));
  const end = follow(client.subscribeToStream(name, { fromRevision: END }));
  assert.deepEqual(ids(await start.first(5)), ids(sent));
  assert.deepEqual(ids(await middle.first(2)), ids(sent).slice(3));
  await end.confirmed.promise;
  const later = events(3);
  await client.appendToStream(name, later, at(4n));
  assert.deepEqual(ids(await start.first(8)).slice(5), ids(later));
  assert.deepEqual(ids(await middle.first(5)).slice(2), ids(later));
  assert.deepEqual(ids(await end.first(3)), ids(later));
  for (const each of [start, middle, end]) await each.subscription.unsubscribe();
});

test("caught up comes between history and what is new", async (client) => {
  const name = stream();
  await client.appendToStream(name, events(20));
  const one = follow(client.subscribeToStream(name));
  const { position } = await client.appendToStream(stream(), event());
  const all = follow(client.subscribeToAll({ fromPosition: position }));
  if (!isOld) {
    const ofOne = await one.caughtUp.promise;
    assert.equal(ofOne.after, 20);
    assert.equal(ofOne.info.revision, 19n);
    assert.ok(ofOne.info.date instanceof Date);
    const ofAll = await all.caughtUp.promise;
    assert.deepEqual(ofAll.info.position, position);
  } else {
    await Promise.all([one.first(20), all.confirmed.promise]);
  }
  await client.appendToStream(name, event());
  assert.equal((await one.first(21))[20].event.revision, 20n);
  assert.equal((await all.first(1))[0].event.streamId, name);
  await one.subscription.unsubscribe();
  await all.subscription.unsubscribe();
});

test("$all is followed from its start, a position and its end", async (client) => {
  const sent = events(4);
  const name = stream();
  const { position } = await client.appendToStream(name, sent[0]);
  await client.appendToStream(name, sent.slice(1));
  const before = await collect(client.readAll());
  const start = follow(client.subscribeToAll());
  const middle = follow(client.subscribeToAll({ fromPosition: position }));
  const end = follow(client.subscribeToAll({ fromPosition: END }));
  assert.deepEqual(ids(await start.first(before.length)), ids(before));
  assert.deepEqual(ids(await middle.first(3)), ids(sent).slice(1));
  await end.confirmed.promise;
  const later = event();
  await client.appendToStream(name, later);
  assert.deepEqual(ids(await end.first(1)), [later.id]);
  assert.deepEqual(ids(await middle.first(4)).slice(3), [later.id]);
  for (const each of [start, middle, end]) await each.subscription.unsubscribe();
});

test("a stream that is not there yet, deletion and a tombstone", async (client) => {
  const name = stream();
  const one = follow(client.subscribeToStream(name));
  await one.confirmed.promise;
  await client.appendToStream(name, events(2));
  await one.first(2);
  await client.deleteStream(name);
  const again = event();
  await client.appendToStream(name, again, at(NO_STREAM));
  assert.deepEqual(ids(await one.first(3)).slice(2), [again.id]);
  await client.tombstoneStream(name);
  const error = await fails(lib.StreamDeletedError, one.ended.promise);
  assert.equal(error.streamName, name);
});

test("checkpoints come as often as asked, and the next event waits for them", async (client) => {
  const mark = randomUUID().replaceAll("-", "");
  const [a, b] = [`a${mark}`, `b${mark}`];
  const { position } = await client.appendToStream(a, event("marker"));
  const { position: eighth } = await client.appendToStream(a, events(8));
  const checkpoints = [];
  let active = false;
  const order = [];
  const filter = lib.streamNameFilter({
    prefixes: [a],
    checkpointInterval: 2,
    checkpointReached: async (_subscription, at) => {
      active = true;
      await new Promise((resolve) => setTimeout(resolve, 10));
      active = false;
      checkpoints.push(at.commit);
      order.push({ checkpoint: at.commit });
    },
  });
  const subscription = client.subscribeToAll({ fromPosition: position, filter });
  const one = follow(subscription);
  subscription.on("data", (each) => {
    assert.equal(active, false, "an event came while a checkpoint was being stored");
    order.push({ event: each.commitPosition ?? each.event.position.commit });
  });
  await one.first(8);
  for (let n = 0; n < 18; n += 1) await client.appendToStream(n % 6 === 5 ? b : a, events(20));
  await client.appendToStream(a, [...events(15), event("finish")]);
  await one.first(8 + 15 * 20 + 16);
  await subscription.unsubscribe();
  // One when history was over after 8, and one each 32 * 2 of the 376 that followed.
  assert.equal(checkpoints[0], eighth.commit);
  assert.equal(checkpoints.length, 6);
  let last = position.commit;
  let checkpoint = last;
  for (const each of order) {
    if (each.checkpoint !== undefined) {
      assert.ok(each.checkpoint > checkpoint || checkpoint === position.commit);
      assert.ok(each.checkpoint >= last);
      checkpoint = each.checkpoint;
    } else {
      assert.ok(each.event > last && each.event > checkpoint);
      last = each.event;
    }
  }
});

test("filters choose in subscriptions", async (client) => {
  const mark = randomUUID().replaceAll("-", "");
  const { position } = await client.appendToStream(stream(), event());
  const sent = [event(`Opened${mark}`), event(`Closed${mark}`), event(`$system${mark}`)];
  await client.appendToStream(`s${mark}-1`, sent);
  for (const [filter, wanted] of [
    [lib.excludeSystemEvents(), [0, 1]],
    [lib.eventTypeFilter({ prefixes: [`Closed${mark}`, "$sys"] }), [1, 2]],
    [lib.streamNameFilter({ regex: `^s${mark}` }), [0, 1, 2]],
    [lib.eventTypeFilter({ regex: "^(?!(Opened.*$))", maxSearchWindow: 10 }), [1, 2]],
  ]) {
    const one = follow(client.subscribeToAll({ fromPosition: position, filter }));
    assert.deepEqual(ids(await one.first(wanted.length)), wanted.map((n) => sent[n].id));
    await one.subscription.unsubscribe();
  }
});

test("writers at work are followed without gap or repeat", async (client) => {
  const mark = randomUUID().replaceAll("-", "");
  const [writers, writes] = [4, 100];
  const filter = lib.streamNameFilter({ prefixes: [`w${mark}`] });
  const some = follow(client.subscribeToAll({ fromPosition: END, filter }));
  const all = follow(client.subscribeToAll({ fromPosition: END }));
  const one = follow(client.subscribeToStream(`w${mark}-0`));
  await Promise.all([some, all, one].map((each) => each.confirmed.promise));
  const write = async (n) => {
    // Clients of the older package share their pending appends, and take each other's.
    const own = isOld ? client : connect();
    for (let i = 0; i < writes; i += 1) {
      const expected = i === 0 ? NO_STREAM : BigInt(i - 1);
      await own.appendToStream(`w${mark}-${n}`, event(), at(expected));
    }
    if (own !== client) await own.dispose();
  };
  await Promise.all(Array.from({ length: writers }, (_, n) => write(n)));
  const found = await some.first(writers * writes);
  assert.deepEqual(ids(await all.first(writers * writes)), ids(found));
  const revisions = (await one.first(writes)).map((each) => Number(each.event.revision));
  assert.deepEqual(revisions, Array.from({ length: writes }, (_, n) => n));
  const positions = found.map((each) => each.commitPosition ?? each.event.position.commit);
  assert.ok(positions.every((each, n) => n === 0 || each > positions[n - 1]));
  for (const each of [some, all, one]) await each.subscription.unsubscribe();
});

test("links are resolved in a subscription", async (client) => {
  const [target, links] = [stream("target"), stream("links")];
  const sent = event();
  await client.appendToStream(target, sent);
  const one = follow(client.subscribeToStream(links, { resolveLinkTos: true }));
  await client.appendToStream(links,
    lib.binaryEvent({ type: "$>", data: Buffer.from(`0@${target}`) }));
  const [found] = await one.first(1);
  assert.equal(found.event.id, sent.id);
  assert.equal(found.link.streamId, links);
  await one.subscription.unsubscribe();
});

test("pings are welcome", async () => {
  const client = connect("keepAliveInterval=100&keepAliveTimeout=2000");
  const name = stream();
  const one = follow(client.subscribeToStream(name));
  await one.confirmed.promise;
  await new Promise((resolve) => setTimeout(resolve, 2000));
  const sent = event();
  await client.appendToStream(name, sent);
  assert.deepEqual(ids(await one.first(1)), [sent.id]);
  await one.subscription.unsubscribe();
  assert.deepEqual(ids(await collect(client.readStream(name))), [sent.id]);
  await client.dispose();
});

test("an unsubscribed subscription frees the server", async (client) => {
  const open = async () => (await (await fetch(`http://${address}/stats`)).json()).subscriptions;
  const until = Date.now() + 10_000;
  const before = await open();
  const many = Array.from({ length: 20 }, () => follow(client.subscribeToAll({ fromPosition: END })));
  await Promise.all(many.map((each) => each.confirmed.promise));
  assert.ok((await open()) >= 20);
  for (const each of many) await each.subscription.unsubscribe();
  while ((await open()) > before) assert.ok(Date.now() < until, "subscriptions are still open");
});
