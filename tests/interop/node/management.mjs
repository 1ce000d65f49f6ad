// The projections that every server of this protocol has.

import assert from "node:assert/strict";

import { fails, stream, test } from "./cases.mjs";

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
  const refused = await fails(Error, client.createProjection(name, "fromAll().when({})"));
  assert.match(refused.message, /JavaScript/);
});
