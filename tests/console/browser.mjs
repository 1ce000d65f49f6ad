// What all parts share: a browser whose pages remember what they complain of and which forms they
// have seen and sent; checks that are counted; the API; servers and their users.

import { spawn } from "node:child_process";
import { mkdirSync, openSync, readFileSync, readdirSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import process from "node:process";

export const { OPEN_URL, SECURE_URL, SECURE_DATA, SHOTS_DIR, SCRATCH_DIR, DAYBOOK_BIN, MODULES } = process.env;
export const require = createRequire(path.join(MODULES, "x.js"));
const { chromium } = require("playwright-core");
const { AxeBuilder } = require("@axe-core/playwright");

export const PAGE_WEIGHT_MAX = 300 * 1024;
// What is large or many is not to hang a page: far above what it takes, so that a busy machine passes.
export const SLOW_PAGE_MS = 5000;
export const WIDE = { width: 1280, height: 860 };
export const NARROW = { width: 380, height: 800 };
// Milliseconds after which a state that was waited for is a failure, and between two looks.
const PATIENCE_MS = 30_000;
const LOOK_MS = 50;

export const count = { passed: 0, failed: 0 };
// Forms by their names (see `formName`): on some page, and sent from one.
export const forms = { seen: new Set(), sent: new Set() };
export const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ["--no-sandbox"],
});

export async function check(name, work) {
  try {
    await work();
    count.passed += 1;
    console.log(`ok      ${name}`);
  } catch (error) {
    count.failed += 1;
    console.log(`FAILED  ${name}: ${error.message.split("\n").slice(0, 6).join("\n        ")}`);
  }
}

export function ensure(holds, what) {
  if (!holds) throw new Error(what);
}

// What `reached` answers once it answers something.
export async function until(what, reached) {
  const end = Date.now() + PATIENCE_MS;
  while (Date.now() < end) {
    const found = await reached();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  throw new Error(`waited too long: ${what}`);
}

// Runs in each page: says which forms it has, and which of them are sent.
function listen() {
  const describe = (form) => ({
    method: form.method,
    path: new URL(form.getAttribute("action"), location.href).pathname,
    fields: [...form.querySelectorAll("[name]:not([type=hidden])")].map((field) => field.name),
  });
  addEventListener("DOMContentLoaded", () => window.heard("seen", [...document.forms].map(describe)));
  addEventListener("submit", (event) => {
    if (!event.defaultPrevented) window.heard("sent", [describe(event.target)]);
  });
}

// A page whose mistakes are remembered.
export async function open(options = {}) {
  const context = await browser.newContext({ viewport: WIDE, ignoreHTTPSErrors: true, ...options });
  await context.exposeBinding("heard", (_, kind, found) => {
    for (const form of found) forms[kind].add(formName(form));
  });
  await context.addInitScript(listen);
  const page = await context.newPage();
  page.mistakes = [];
  page.on("pageerror", (error) => page.mistakes.push(String(error)));
  page.on("console", (said) => {
    if (said.type() === "error" && !/status of 4\d\d/.test(said.text())) page.mistakes.push(said.text());
  });
  return page;
}

export function untroubled(page) {
  ensure(page.mistakes.length === 0, `the browser complains: ${page.mistakes.join("; ")}`);
}

export async function seriousOf(page) {
  const found = await new AxeBuilder({ page }).analyze();
  const serious = found.violations.filter((one) => ["serious", "critical"].includes(one.impact));
  return serious.map((one) => `${one.id}: ${one.nodes[0].html.slice(0, 160)}`).join("; ");
}

// The API of a server, by default the open one.
export function apiOf(url) {
  return async (method, where, body, headers = {}) => {
    const answer = await fetch(url + where, {
      method,
      headers: { "content-type": "application/json", ...headers },
      body: typeof body === "string" || body === undefined ? body : JSON.stringify(body),
    });
    const text = await answer.text();
    ensure(answer.ok, `${method} ${where}: ${answer.status} ${text.slice(0, 200)}`);
    return text.startsWith("{") || text.startsWith("[") ? JSON.parse(text) : null;
  };
}
export const api = apiOf(OPEN_URL);

export const shot = (page, name, whole = false) =>
  page.screenshot({ path: path.join(SHOTS_DIR, `${name}.png`), fullPage: whole });

// The administrator's password on the secure server.
export function password() {
  const directory = path.join(SECURE_DATA, "dev");
  const found = readdirSync(directory).find((name) => name.includes("password"));
  ensure(found && statSync(path.join(directory, found)).isFile(), `no password in ${directory}`);
  return readFileSync(path.join(directory, found), "utf8").trim();
}

export async function enter(page, login, secret) {
  await page.goto(`${SECURE_URL}/ui/login`);
  await page.getByLabel("User").fill(login);
  await page.getByLabel("Password").fill(secret);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.waitForURL("**/ui/");
}

// Goes on with the Tab key to what has this text.
export async function reach(page, text) {
  for (let i = 0; i < 80; i += 1) {
    await page.keyboard.press("Tab");
    const found = await page.evaluate(() => document.activeElement?.textContent?.trim());
    if (found === text) return;
  }
  throw new Error(`the keyboard does not come to "${text}"`);
}

// A server of a part's own; it ends with the suite.
export async function serve(name, args, env = {}) {
  const data = path.join(SCRATCH_DIR, name);
  mkdirSync(data, { recursive: true });
  // Not *.log: what goes wrong here is meant to, and the part looks at it.
  const said = path.join(SCRATCH_DIR, `${name}.said`);
  const out = openSync(said, "w");
  const all = ["serve", "--data", data, "--listen", "127.0.0.1:0", ...args];
  const server = spawn(DAYBOOK_BIN, all, { stdio: ["ignore", "ignore", out], env: { ...process.env, ...env } });
  process.on("exit", () => server.kill("SIGKILL"));
  process.once("SIGTERM", () => process.exit(1));
  const url = await until(`the server ${name} to be ready`, () => {
    ensure(server.exitCode === null, readFileSync(said, "utf8"));
    return /"message":"ready".*"url":"([^"]*)"/.exec(readFileSync(said, "utf8"))?.[1];
  });
  return { url, said: () => readFileSync(said, "utf8") };
}

// ------------------------------------------------------------------------------------- its forms

const SOURCES = new URL("../../server/src/", import.meta.url);
export const ROUTES = readdirSync(SOURCES, { recursive: true })
  .filter((name) => name === "ui.rs" || /^ui\/.*\.rs$/.test(name))
  .flatMap((name) => [...readFileSync(new URL(name, SOURCES), "utf8").matchAll(/\.(get|post)\("(\/ui[^"]*)"/g)])
  .map(([, method, route]) => ({ method, route }));

// The route that a path belongs to; what takes every path comes last.
export function matches(method, where) {
  const leads = ({ route }) => {
    const pattern = route.replace(/\{\*\w+\}/g, ".*").replace(/\{\w+\}/g, "[^/]+");
    return new RegExp(`^${pattern}$`).test(where);
  };
  const found = ROUTES.filter((one) => one.method === method && leads(one));
  return found.find(({ route }) => !route.includes("{*")) ?? found[0];
}

// The form as the table calls it: the route it goes to, with the order that it gives, or what is
// asked for.
function formName({ method, path: where, fields }) {
  const found = matches(method, where);
  ensure(found, `no route for ${method} ${where}`);
  const verb = where.split("/").at(-1);
  const route = found.route.replace(/\{order\}$/, verb);
  return method === "get" ? `get ${route} (${fields.join(" ")})` : `post ${route}`;
}

// What the source has, though no page may have shown it. Orders are known by the pages alone.
const WRITTEN = ROUTES.filter(({ method, route }) => method === "post" && !route.endsWith("{order}"))
  .map(({ route }) => `post ${route}`);

// Forms that no check can have sent.
const UNSENT = {
  "post /ui/operations/clock": "needs a clock that leaps",
  "post /ui/operations/scavenge/stop": "is there while a scavenge runs, which is too short here",
  "post /ui/projections/{name}/skip": "needs an event of the ledger's that is damaged",
};

// Fails for each form that was not tried; and for what the list above says in vain.
export async function everyForm() {
  const all = new Set([...forms.seen, ...WRITTEN]);
  await check(`each of the ${all.size} forms is sent by some check`, async () => {
    const missing = [...all].filter((form) => !forms.sent.has(form) && !(form in UNSENT));
    ensure(missing.length === 0, `no check sends ${missing.join(", ")}`);
    const vain = Object.keys(UNSENT).filter((form) => forms.sent.has(form));
    ensure(vain.length === 0, `sent after all: ${vain.join(", ")}`);
  });
}
