// What all cases share: the client under test, names of their own, and a runner.
//
// The cases run against the npm package named in DAYBOOK_CLIENT, unmodified. DAYBOOK_URL is the
// server's HTTP address, DAYBOOK_MODULES the directory whose node_modules has the package.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";

const PACKAGE = process.env.DAYBOOK_CLIENT ?? "@kurrent/kurrentdb-client";
// Milliseconds a case may take; a hanging call is a failure, not a hanging build.
const CASE_MS_MAX = 60_000;

const require = createRequire(`${process.env.DAYBOOK_MODULES ?? process.cwd()}/`);
export const lib = require(PACKAGE);
export const Client = lib.KurrentDBClient ?? lib.EventStoreDBClient;
export const isOld = !lib.KurrentDBClient;
export const address = (process.env.DAYBOOK_URL ?? "http://127.0.0.1:2113").replace("http://", "");

const cases = [];

/** Registers a case. It is given a connected client, disposed of afterwards. */
export function test(name, run) {
  cases.push({ name, run });
}

export function connect(options = "", { discover = false, to = address } = {}) {
  const scheme = (isOld ? "esdb" : "kurrentdb") + (discover ? "+discover" : "");
  const separator = options === "" ? "" : "&";
  return Client.connectionString(`${scheme}://${to}?tls=false${separator}${options}`);
}

export const stream = (label = "s") => `${label}-${randomUUID()}`;

export const event = (type = "Happened", data = { a: 1 }, more = {}) =>
  lib.jsonEvent({ type, data, ...more });

export const events = (count, type = "Happened") =>
  Array.from({ length: count }, (_, n) => event(type, { n }));

export const ids = (resolved) => resolved.map((each) => (each.event ?? each).id);

/** The option that says which revision an append expects. */
export const at = (expected) => (isOld ? { expectedRevision: expected } : { streamState: expected });

/** All that a read or subscription delivers, at most `count`. */
export async function collect(delivered, count = Infinity) {
  const found = [];
  if (count === 0) return found;
  for await (const each of delivered) {
    found.push(each);
    if (found.length === count) break;
  }
  return found;
}

/** The error of class `wanted` with which `promise` fails. */
export async function fails(wanted, promise) {
  try {
    const result = await promise;
    assert.fail(`${wanted.name} was not thrown; the result is ${show(result)}`);
  } catch (error) {
    if (!(error instanceof wanted)) throw error;
    return error;
  }
}

/** A promise and what settles it. */
export function deferred() {
  let resolve, reject;
  const promise = new Promise((yes, no) => ([resolve, reject] = [yes, no]));
  return { promise, resolve, reject };
}

export function show(value) {
  return JSON.stringify(value, (_key, v) => (typeof v === "bigint" ? `${v}n` : v));
}

async function limited(run, client) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`took longer than ${CASE_MS_MAX} ms`)), CASE_MS_MAX);
  });
  try {
    await Promise.race([run(client), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Runs all cases one after the other, and says how it went. */
export async function main() {
  let passed = 0;
  let failed = 0;
  for (const { name, run } of cases) {
    const began = performance.now();
    const client = connect();
    try {
      await limited(run, client);
      passed += 1;
      console.log(`ok      ${PACKAGE}: ${name} (${((performance.now() - began) / 1000).toFixed(2)} s)`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED  ${PACKAGE}: ${name}\n${error.stack ?? error}`);
    } finally {
      await client.dispose();
    }
  }
  console.log(`${passed} passed, ${failed} failed`);
  // Clients keep timers and native threads; what counts has been said.
  process.exit(failed === 0 ? 0 : 1);
}
