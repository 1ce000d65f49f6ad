// Emmett, an event-sourcing framework, on its adapter for KurrentDB's older client.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.DAYBOOK_MODULES}/`);
// The framework's files for `require` await at their top level, which Node does not take.
const module = (name) => import(require.resolve(name).replace(/\.cjs$/, ".js"));
const { CommandHandler, STREAM_DOES_NOT_EXIST } = await module("@event-driven-io/emmett");
const { getEventStoreDBEventStore } = await module("@event-driven-io/emmett-esdb");
const { EventStoreDBClient } = require("@eventstore/db-client");

const address = process.env.DAYBOOK_URL.replace("http://", "");
const client = EventStoreDBClient.connectionString(`esdb://${address}?tls=false`);
const store = getEventStoreDBEventStore(client);
const cases = [];
const test = (name, run) => cases.push({ name, run });

const evolve = (cart, { type, data }) => {
  switch (type) {
    case "ItemAdded": return { ...cart, items: cart.items + data.count };
    case "CartConfirmed": return { ...cart, confirmed: true };
    default: return cart;
  }
};
const initialState = () => ({ items: 0, confirmed: false });
const added = (count) => ({ type: "ItemAdded", data: { count } });
const cartName = () => `cart-${randomUUID()}`;

test("a stream is appended to, read, and folded", async () => {
  const name = cartName();
  const first = await store.appendToStream(name, [added(2), added(3)], {
    expectedStreamVersion: STREAM_DOES_NOT_EXIST,
  });
  assert.equal(first.nextExpectedStreamVersion, 1n);
  const read = await store.readStream(name);
  assert.deepEqual(read.events.map(({ type, data }) => ({ type, data })), [added(2), added(3)]);
  assert.equal(read.currentStreamVersion, 1n);
  const folded = await store.aggregateStream(name, { evolve, initialState });
  assert.deepEqual(folded.state, { items: 5, confirmed: false });
  const missing = await store.readStream(cartName());
  assert.equal(missing.streamExists, false);
});

test("a writer that is late is refused", async () => {
  const name = cartName();
  await store.appendToStream(name, [added(1)]);
  await assert.rejects(
    store.appendToStream(name, [added(1)], { expectedStreamVersion: STREAM_DOES_NOT_EXIST }),
    /[Ee]xpected/,
  );
});

test("commands are decided on what was stored", async () => {
  const handle = CommandHandler({ evolve, initialState });
  const name = cartName();
  await handle(store, name, () => added(4));
  const done = await handle(store, name, (cart) => {
    assert.equal(cart.items, 4);
    return [{ type: "CartConfirmed", data: {} }];
  });
  assert.deepEqual(done.newState, { items: 4, confirmed: true });
  assert.equal(done.nextExpectedStreamVersion, 1n);
});

let [passed, failed] = [0, 0];
for (const { name, run } of cases) {
  try {
    await run();
    passed += 1;
    console.log(`ok      emmett: ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  emmett: ${name}\n${error.stack}`);
  }
}
await client.dispose();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
