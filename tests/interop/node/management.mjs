// Projections: those that every server of this protocol has, and those that users write.

import assert from "node:assert/strict";

import { events, fails, stream, test } from "./cases.mjs";

const BUILT_IN = [
  "$by_category", "$by_correlation_id", "$by_event_type", "$stream_by_category", "$streams",
];

test("the system's projections are listed", async (client) => {
  const found = await client.listProjections();
  assert.deepEqual(found.map((each) => each.name).sort(), BUILT_IN);
  for (const each of found) assert.equal(each.progress, 100);
});

test("a system's projection is stopped and started", async (client) => {
  const name = "$stream_by_category";
  const status = async () => (await client.getProjectionStatus(name)).status;
  assert.equal(await status(), "Running");
  await client.disableProjection(name);
  assert.equal(await status(), "Stopped");
  await client.abortProjection(name);
  assert.equal(await status(), "Aborted/Stopped");
  await client.enableProjection(name);
  await client.resetProjection(name);
  assert.equal(await status(), "Running");
  assert.deepEqual(await client.getProjectionState(name), {});
  assert.deepEqual(await client.getProjectionResult(name), {});
  await client.restartSubsystem();
});

test("a projection that is not there is not found", async (client) => {
  const name = stream();
  for (const call of [
    () => client.getProjectionStatus(name),
    () => client.disableProjection(name),
    () => client.enableProjection(name),
    () => client.resetProjection(name),
    () => client.deleteProjection(name),
    () => client.getProjectionState(name),
    () => client.getProjectionResult(name),
    () => client.updateProjection(name, "fromAll()"),
  ]) {
    const error = await fails(Error, call());
    assert.match(error.message, /not found/);
  }
  await fails(Error, client.deleteProjection("$by_category"));
  const refused = await fails(Error, client.createProjection(name, "fromAll("));
  assert.match(refused.message, /could not compile/);
});

test("a projection that a user wrote has states of partitions", async (client) => {
  const [name, category] = [stream("count"), `c${stream("").replaceAll("-", "")}`];
  const query = `
    fromCategory("${category}")
      .foreachStream()
      .when({ $init: () => ({ n: 0 }), $any(s) { s.n += 1; } })
      .transformBy((s) => ({ twice: 2 * s.n }))
      .outputState()`;
  await client.createProjection(name, query, { emitEnabled: true, trackEmittedStreams: true });
  const streams = [`${category}-1`, `${category}-2`];
  for (const each of streams) await client.appendToStream(each, events(3));
  const result = (partition) => client.getProjectionResult(name, { partition });
  const until = Date.now() + 30_000;
  while ((await result(streams[1])).twice !== 6) assert.ok(Date.now() < until, "it does not count");
  assert.deepEqual(await result(streams[0]), { twice: 6 });
  assert.deepEqual(await client.getProjectionState(name, { partition: streams[0] }), { n: 3 });
  assert.equal((await client.getProjectionStatus(name)).status, "Running");
  await client.updateProjection(name, query.replace("2 *", "3 *"));
  await client.appendToStream(streams[0], events(1));
  while ((await result(streams[0])).twice !== 12) assert.ok(Date.now() < until, "not updated");
  await client.disableProjection(name);
  await client.deleteProjection(name, {
    deleteCheckpointStream: true, deleteEmittedStreams: true, deleteStateStream: true,
  });
  await fails(Error, client.getProjectionStatus(name));
});
