// The console as a person meets it. Each part is a list of checks; a check fails by an exception.
//
// A form of the console that no check sends fails the suite, and so does a page that none looks at.

import process from "node:process";

import { access } from "./access.mjs";
import { actions } from "./actions.mjs";
import { browser, count, everyForm } from "./browser.mjs";
import { desk } from "./desk.mjs";
import { large } from "./large.mjs";
import { pages } from "./pages.mjs";
import { shots } from "./shots.mjs";
import { everyPage, tellPaints } from "./ways.mjs";

const PARTS = { pages, actions, desk, access, large };

const wanted = process.argv.slice(2);
for (const [name, part] of Object.entries(PARTS)) {
  if (wanted.length === 0 || wanted.includes(name)) await part();
}
if (wanted.length === 0) {
  await everyForm();
  await everyPage();
}
tellPaints();
if (wanted.includes("shots")) await shots();
await browser.close();
console.log(`${count.passed} passed, ${count.failed} failed`);
process.exit(count.failed === 0 ? 0 : 1);
