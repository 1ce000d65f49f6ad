// The client before a server that asks everyone who they are, over TLS. DAYBOOK_CERTS has `ca.crt`,
// `client.crt` and `client.key` (of the user admin) and `admin-password`; DAYBOOK_URL is https://…

import { readFileSync } from "node:fs";

import { Client, event, stream } from "./cases.mjs";

const certs = process.env.DAYBOOK_CERTS;
const port = new URL(process.env.DAYBOOK_URL).port;
const password = readFileSync(`${certs}/admin-password`, "utf8").trim();

const connect = (credentials, more = "") =>
  Client.connectionString(
    `kurrentdb://${credentials}localhost:${port}?tls=true&tlsCaFile=${certs}/ca.crt${more}`,
  );

let passed = 0;
let failed = 0;
function check(what, holds) {
  if (holds) passed += 1;
  else failed += 1;
  console.log(`${holds ? "ok     " : "FAILED "} node-secure: ${what}`);
}

async function works(client) {
  const name = stream("secure");
  try {
    await client.appendToStream(name, [event()]);
    let count = 0;
    for await (const _ of client.readStream(name)) count += 1;
    return count === 1;
  } catch (error) {
    return error.type ?? error.constructor.name;
  } finally {
    await client.dispose();
  }
}

check("a login and its password append and read", (await works(connect(`admin:${password}@`))) === true);
check("a wrong password does neither", (await works(connect("admin:wrong@"))) === "access-denied");
const files = `&userCertFile=${certs}/client.crt&userKeyFile=${certs}/client.key`;
check("a client certificate stands for its user", (await works(connect("", files))) === true);
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
