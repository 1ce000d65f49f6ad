// The console as a person meets it. Each part is a list of checks; a check fails by an exception.

import { execFileSync, spawn } from "node:child_process";
import { readFileSync, readdirSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import process from "node:process";

const { OPEN_URL, SECURE_URL, SECURE_DATA, SHOTS_DIR, DAYBOOK_BIN, MODULES, CHROMIUM } = process.env;
const require = createRequire(path.join(MODULES, "x.js"));
const { chromium } = require("playwright-core");
const { AxeBuilder } = require("@axe-core/playwright");

const PAGE_WEIGHT_MAX = 300 * 1024;
// First paint on the loopback; far above what it takes, so that a busy machine passes.
const SLOW_PAGE_MS = 5000;
const WIDE = { width: 1280, height: 860 };
const NARROW = { width: 380, height: 800 };

let passed = 0;
let failed = 0;
const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });

async function check(name, work) {
  try {
    await work();
    passed += 1;
    console.log(`ok      ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}: ${error.message.split("\n").slice(0, 6).join("\n        ")}`);
  }
}

function ensure(holds, what) {
  if (!holds) throw new Error(what);
}

// A page whose mistakes are remembered.
async function open(options = {}) {
  const context = await browser.newContext({ viewport: WIDE, ignoreHTTPSErrors: true, ...options });
  const page = await context.newPage();
  page.mistakes = [];
  page.on("pageerror", (error) => page.mistakes.push(String(error)));
  page.on("console", (said) => {
    if (said.type() === "error" && !/status of 4\d\d/.test(said.text())) page.mistakes.push(said.text());
  });
  return page;
}

function untroubled(page) {
  ensure(page.mistakes.length === 0, `the browser complains: ${page.mistakes.join("; ")}`);
}

async function api(method, where, body, headers = {}) {
  const answer = await fetch(OPEN_URL + where, {
    method,
    headers: { "content-type": "application/json", ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  ensure(answer.ok, `${method} ${where}: ${answer.status}`);
  return answer.status === 204 ? null : answer.json();
}

const shot = (page, name, whole = false) =>
  page.screenshot({ path: path.join(SHOTS_DIR, `${name}.png`), fullPage: whole });

// ---------------------------------------------------------------------------------------- the data

execFileSync(DAYBOOK_BIN, ["demo", "--url", OPEN_URL], { stdio: "ignore" });
const accounts = (await api("GET", "/v1/accounts")).accounts;
const transfers = (await api("GET", "/v1/transfers")).transfers;
const undone = transfers.find((one) => one.state === "compensated" && one.reason.includes("risk"));
const account = accounts.find((one) => one.status === "active" && one.revision > 3) ?? accounts[0];
await api("POST", "/v1/streams/orders-1?expected=any", [
  { type: "OrderPlaced", data: { total: "12.50", lines: [{ sku: "A-1", count: 2 }] }, metadata: { $correlationId: "c-1" } },
  { type: "OrderPaid", data: { by: "card" }, metadata: { $correlationId: "c-1" } },
]);

const PAGES = {
  overview: "/ui/",
  streams: "/ui/streams",
  categories: "/ui/categories",
  tail: "/ui/tail",
  stream: "/ui/streams/orders-1",
  event: "/ui/streams/orders-1/0",
  virtual: "/ui/streams/%24ce-ledger.account",
  chain: "/ui/chain/c-1",
  accounts: "/ui/accounts",
  account: `/ui/accounts/${account.account_id}`,
  past: `/ui/accounts/${account.account_id}?revision=1`,
  transfers: "/ui/transfers",
  transfer: `/ui/transfers/${undone.transfer_id}`,
  books: "/ui/books?verify=yes",
  risk: "/ui/risk",
  projections: "/ui/projections",
  projection: "/ui/projections/accounts",
  subscriptions: "/ui/subscriptions",
  connectors: "/ui/connectors",
  operations: "/ui/operations",
  users: "/ui/users",
  audit: "/ui/audit",
  config: "/ui/config",
  api: "/ui/api",
  nothing: "/ui/nothing",
};

// --------------------------------------------------------------------------------------- the parts

const parts = {
  async pages() {
    for (const [name, where] of Object.entries(PAGES)) {
      await check(`${name}: it is whole, light, and says no wrong`, async () => {
        const page = await open();
        let weight = 0;
        page.on("response", async (answer) => {
          if (!answer.url().includes("/live") && !answer.url().includes("/feed")) {
            weight += (await answer.body().catch(() => "")).length;
          }
        });
        const answer = await page.goto(OPEN_URL + where, { waitUntil: "load" });
        ensure(answer.status() === (name === "nothing" ? 404 : 200), `status ${answer.status()}`);
        ensure((await page.locator("h1").count()) === 1, "one heading");
        await page.waitForTimeout(100);
        ensure(weight < PAGE_WEIGHT_MAX, `${weight} bytes`);
        const paint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0);
        ensure(paint < SLOW_PAGE_MS, `first paint after ${paint} ms`);
        untroubled(page);
        await shot(page, name, true);
        await page.context().close();
      });
      for (const scheme of ["light", "dark"]) {
        await check(`${name}, ${scheme}: axe finds nothing serious`, async () => {
          const page = await open({ colorScheme: scheme });
          await page.goto(OPEN_URL + where);
          await page.evaluate(() => {
            for (const one of document.querySelectorAll("main details")) one.open = true;
          });
          const found = await new AxeBuilder({ page }).analyze();
          const serious = found.violations.filter((one) => ["serious", "critical"].includes(one.impact));
          ensure(serious.length === 0, serious.map((one) => `${one.id}: ${one.nodes[0].html.slice(0, 160)}`).join("; "));
          if (scheme === "dark") await shot(page, `${name}-dark`);
          await page.context().close();
        });
      }
      await check(`${name}: it fits 380 pixels`, async () => {
        const page = await open({ viewport: NARROW });
        await page.goto(OPEN_URL + where);
        await page.waitForTimeout(50);
        const width = await page.evaluate(() => document.documentElement.scrollWidth);
        ensure(width <= NARROW.width, `${width} pixels wide`);
        ensure(!(await page.locator("[data-menu]").evaluate((menu) => menu.open)), "the menu folds");
        await shot(page, `${name}-narrow`);
        await page.context().close();
      });
      await check(`${name}: it can be read without a script`, async () => {
        const page = await open({ javaScriptEnabled: false });
        await page.goto(OPEN_URL + where);
        ensure((await page.locator("main h1").innerText()).length > 0, "a heading");
        ensure(await page.locator("nav.menu a").first().isVisible(), "the menu");
        await page.context().close();
      });
    }
  },

  async actions() {
    await check("the overview goes on by itself", async () => {
      const page = await open();
      await page.goto(`${OPEN_URL}/ui/`);
      await page.locator(".pulse", { hasText: "live" }).waitFor();
      const figures = () => page.locator("#figures").innerText();
      const before = await figures();
      await api("POST", "/v1/streams/orders-2?expected=any", { type: "OrderPlaced", data: 1 });
      await page.waitForFunction((old) => document.getElementById("figures").innerText !== old, before);
      untroubled(page);
      await page.context().close();
    });
    await check("the theme is chosen and kept", async () => {
      const page = await open({ colorScheme: "light" });
      await page.goto(`${OPEN_URL}/ui/streams`);
      await page.locator("[data-theme-switch]").click();
      await page.goto(`${OPEN_URL}/ui/accounts`);
      ensure((await page.evaluate(() => document.documentElement.dataset.theme)) === "dark", "dark stays");
      await page.context().close();
    });
    await check("events appear as they are appended, and wait while it pauses", async () => {
      const page = await open();
      await page.goto(`${OPEN_URL}/ui/tail?stream_prefix=tailed-`);
      await page.locator(".pulse", { hasText: "live" }).waitFor();
      const rows = page.locator("[data-feed-rows] tbody tr");
      const append = (n) => api("POST", `/v1/streams/tailed-${n}?expected=any`, { type: "<Odd>", data: { n } });
      await append(1);
      await rows.first().waitFor();
      ensure((await rows.first().innerText()).includes("<Odd>"), "its type, as it is");
      await page.locator("[data-feed-pause]").click();
      await append(2);
      await page.waitForTimeout(300);
      ensure((await rows.count()) === 1, "it pauses");
      await page.locator("[data-feed-pause]").click();
      await page.waitForFunction(() => document.querySelectorAll("[data-feed-rows] tbody tr").length === 2);
      ensure((await rows.first().innerText()).includes("tailed-2"), "the newest is on top");
      untroubled(page);
      await shot(page, "tail-live");
      await page.context().close();
    });
    await check("an event is appended, shown as tree, text and bytes; settings are saved; the stream is deleted", async () => {
      const page = await open();
      await page.goto(`${OPEN_URL}/ui/streams`);
      await page.getByText("Open or begin a stream").click();
      await page.getByLabel("Name", { exact: true }).fill("typed/1 ä");
      await page.getByRole("button", { name: "Open" }).click();
      await page.getByText("There is no such stream").waitFor();
      await page.getByText("Append an event", { exact: true }).click();
      await page.getByLabel("Type", { exact: true }).fill("Typed");
      await page.getByLabel("Data, in JSON", { exact: true }).fill('{"amount": 12345678901234567890.10, "to": ["<b>"]}');
      await page.getByRole("button", { name: "Append" }).click();
      await page.getByText("The event was appended.").waitFor();
      await page.getByRole("link", { name: "0", exact: true }).click();
      await page.locator(".tree").getByText("12345678901234567890.10").waitFor();
      ensure((await page.locator(".tree b").count()) === 0, "nothing of it is markup");
      await page.getByText("As bytes").first().click();
      await page.getByText("000000").first().waitFor();
      const [download] = await Promise.all([
        page.waitForEvent("download"),
        page.getByRole("link", { name: "Download raw" }).first().click(),
      ]);
      const saved = readFileSync(await download.path(), "utf8");
      ensure(saved === '{"amount": 12345678901234567890.10, "to": ["<b>"]}', `saved: ${saved}`);
      await page.locator(".crumbs").getByRole("link", { name: "typed/1 ä" }).click();
      await page.getByText("Settings (metadata)").click();
      await page.getByLabel("Settings, a JSON object").fill('{"$maxCount": 5}');
      await page.getByRole("button", { name: "Save" }).click();
      await page.getByText("settings were saved").waitFor();
      await page.getByText("Delete this stream").click();
      await page.getByLabel("Type the stream's name").fill("typed/1");
      await page.getByRole("button", { name: "Delete" }).click();
      await page.getByText("nothing was deleted").waitFor();
      await page.goBack();
      await page.getByText("Delete this stream").click();
      await page.getByLabel("Type the stream's name").fill("typed/1 ä");
      await page.getByRole("button", { name: "Delete" }).click();
      await page.getByText("The stream was deleted.").waitFor();
      untroubled(page);
      await page.context().close();
    });
    await check("what belongs together is drawn in time", async () => {
      const page = await open();
      await page.goto(OPEN_URL + PAGES.event);
      await page.getByRole("link", { name: "c-1" }).click();
      ensure((await page.locator(".timeline li").count()) === 2, "both events");
      await page.context().close();
    });
    await check("an account is frozen, flagged, and both are taken back", async () => {
      const page = await open();
      await page.goto(OPEN_URL + PAGES.account);
      await page.locator("#freeze-reason").fill("a call from the police");
      await page.getByRole("button", { name: "Freeze the account" }).click();
      await page.locator(".heading").getByText("frozen").waitFor();
      await page.getByRole("button", { name: "Unfreeze the account" }).click();
      await page.locator(".heading").getByText("active").waitFor();
      await page.locator("#flag-reason").fill("odd payments");
      await page.getByRole("button", { name: "Flag the account" }).click();
      await page.getByText("odd payments").first().waitFor();
      await page.getByRole("button", { name: "Take the flag away" }).click();
      await page.locator("#flag-reason").waitFor();
      untroubled(page);
      await page.context().close();
    });
    await check("an account is shown as it was", async () => {
      const page = await open();
      await page.goto(OPEN_URL + PAGES.account);
      const slider = page.locator("#revision");
      await slider.focus();
      await slider.press("Home");
      await page.getByText("as it was after its event 0").waitFor();
      await page.getByRole("link", { name: "Back to now" }).click();
      await page.locator("#at").fill(new Date().toISOString());
      await page.locator("form", { has: page.locator("#at") }).getByRole("button").click();
      await page.getByText("as it was after its event").waitFor();
      await page.context().close();
    });
    await check("rules of risk are set", async () => {
      const page = await open();
      await page.goto(OPEN_URL + PAGES.risk);
      await page.getByText("Change the rules").click();
      await page.getByLabel("Largest transfer").fill("USD 5000.00\nEUR 4000.00");
      await page.getByRole("button", { name: "Set the rules" }).click();
      await page.locator(".card .amount", { hasText: "000.00" }).nth(1).waitFor();
      await page.context().close();
    });
    await check("a projection is paused, resumed and rebuilt", async () => {
      const page = await open();
      page.on("dialog", (dialog) => dialog.accept());
      await page.goto(OPEN_URL + PAGES.projections);
      const row = page.locator("tr", { hasText: "accounts" });
      await row.getByRole("button", { name: "Pause" }).click();
      await row.getByRole("button", { name: "Resume" }).waitFor();
      await row.getByRole("button", { name: "Resume" }).click();
      await row.getByRole("button", { name: "Pause" }).waitFor();
      await row.getByRole("button", { name: "Rebuild" }).click();
      await page.getByText("Done.").waitFor();
      await page.context().close();
    });
    await check("a verification and a scavenge are begun, and end", async () => {
      const page = await open();
      await page.goto(OPEN_URL + PAGES.operations);
      await page.getByRole("button", { name: "Verify the log" }).click();
      await page.locator(".badge", { hasText: "sound" }).waitFor();
      await page.getByRole("button", { name: "Start a scavenge" }).click();
      await page.locator(".notice[role=status]").waitFor();
      untroubled(page);
      await page.context().close();
    });
    await check("the books are compared with every account", async () => {
      const page = await open();
      await page.goto(`${OPEN_URL}/ui/books`);
      await page.getByRole("button", { name: "Compare with every account" }).click();
      await page.getByText("equals a fold of").waitFor();
      await page.context().close();
    });
    await check("an error is a page that says what to do", async () => {
      const page = await open();
      await page.goto(`${OPEN_URL}/ui/accounts/not-an-id`);
      ensure((await page.locator("[role=alert]").innerText()).includes("UUID"), "it names what is wrong");
      ensure(await page.locator("nav.menu").isVisible(), "within the frame");
      await page.context().close();
    });
  },

  async login() {
    const password = readFileSync(passwordFile(), "utf8").trim();
    await check("login, stream and event by the keyboard alone", async () => {
      const page = await open();
      await page.goto(`${SECURE_URL}/ui/streams/%24audit`);
      ensure(page.url().includes("/ui/login?next="), "the login comes first");
      await page.keyboard.type("admin");
      await page.keyboard.press("Tab");
      await page.keyboard.type("wrong");
      await page.keyboard.press("Enter");
      await page.locator("[role=alert]").waitFor();
      await shot(page, "login");
      await page.keyboard.type("admin");
      await page.keyboard.press("Tab");
      await page.keyboard.type(password);
      await page.keyboard.press("Enter");
      await page.waitForURL((url) => url.pathname.startsWith("/ui/streams/"));
      await page.goto(`${SECURE_URL}/ui/streams`);
      await reach(page, "Skip to the content");
      await page.keyboard.press("Enter");
      await reach(page, "$store");
      await page.keyboard.press("Enter");
      await page.waitForURL("**/ui/streams/%24store");
      await reach(page, "0");
      await page.keyboard.press("Enter");
      await page.waitForURL("**/ui/streams/%24store/0");
      untroubled(page);
      const cookies = await page.context().cookies(`${SECURE_URL}/ui/`);
      const cookie = cookies.find((one) => one.name === "__Secure-daybook-console");
      ensure(cookie?.secure && cookie.httpOnly && cookie.sameSite === "Strict" && cookie.path === "/ui", JSON.stringify(cookies));
      await page.context().close();
    });
    await check("a user is created, has other groups, another password, and no access", async () => {
      const page = await open();
      page.on("dialog", (dialog) => dialog.accept());
      await enter(page, "admin", password);
      await page.goto(`${SECURE_URL}/ui/users`);
      await page.getByText("Create a user").click();
      await page.getByLabel("User", { exact: true }).fill("bob");
      await page.getByLabel("Groups, apart by commas").fill("$monitor");
      await page.getByLabel("Password").fill("correct horse battery");
      await page.getByRole("button", { name: "Create" }).click();
      await page.getByRole("heading", { name: "bob" }).waitFor();
      const bob = await open();
      await enter(bob, "bob", "correct horse battery");
      ensure((await bob.getByRole("link", { name: "Users", exact: true }).count()) === 0, "nothing is offered that he may not");
      ensure((await bob.goto(`${SECURE_URL}/ui/users`)).status() === 403, "and it is refused");
      await shot(bob, "forbidden");
      await bob.goto(`${SECURE_URL}/ui/`);
      await page.getByLabel("Groups, apart by commas").fill("$monitor, ledger-read");
      await page.getByRole("button", { name: "Save" }).click();
      await page.getByText("Done.").waitFor();
      await bob.goto(`${SECURE_URL}/ui/`);
      ensure(bob.url().includes("/ui/login"), "he logs in again, to be who he is now");
      await enter(bob, "bob", "correct horse battery");
      ensure((await bob.getByRole("link", { name: "Accounts" }).count()) === 1, "accounts are his");
      await page.getByRole("button", { name: "Disable the user" }).click();
      await page.locator(".heading").getByText("disabled").waitFor();
      await bob.getByText("your session has ended").waitFor();
      await bob.goto(`${SECURE_URL}/ui/`);
      ensure(bob.url().includes("/ui/login"), "he is out");
      await page.goto(`${SECURE_URL}/ui/audit`);
      ensure((await page.locator("td", { hasText: "POST /ui/users/bob/disable" }).count()) > 0, "it is recorded");
      await shot(page, "audit-filled");
      await page.getByRole("button", { name: "Log out" }).click();
      await page.waitForURL("**/ui/login");
      await bob.context().close();
      await page.context().close();
    });
    await check("the login: axe finds nothing serious", async () => {
      const page = await open();
      await page.goto(`${SECURE_URL}/ui/login`);
      const found = await new AxeBuilder({ page }).analyze();
      const serious = found.violations.filter((one) => ["serious", "critical"].includes(one.impact));
      ensure(serious.length === 0, serious.map((one) => one.id).join(", "));
      await page.context().close();
    });
  },

  async large() {
    await check("an event of 10 MB does not hang its page, its stream's, nor the tail", async () => {
      const tail = await open();
      await tail.goto(`${OPEN_URL}/ui/tail?stream=large-1`);
      await tail.locator(".pulse", { hasText: "live" }).waitFor();
      const text = "x".repeat(10 * 1024 * 1024);
      await api("POST", "/v1/streams/large-1?expected=any", { type: "Large", data: { text } });
      await tail.locator("[data-feed-rows] tbody tr").first().waitFor();
      await tail.context().close();
      for (const where of ["/ui/streams/large-1", "/ui/streams/large-1/0"]) {
        const page = await open();
        const began = Date.now();
        const answer = await page.goto(OPEN_URL + where);
        const size = (await answer.body()).length;
        ensure(size < PAGE_WEIGHT_MAX, `${where}: ${size} bytes`);
        ensure(Date.now() - began < SLOW_PAGE_MS, `${where}: ${Date.now() - began} ms`);
        await page.context().close();
      }
      const raw = await fetch(`${OPEN_URL}/ui/streams/large-1/0/data`);
      ensure((await raw.arrayBuffer()).byteLength > text.length, "all of it can be downloaded");
    });
    await check("100,000 streams do not hang a page", async () => {
      const BATCH = 500;
      for (let first = 0; first < 100_000; first += BATCH) {
        const streams = Array.from({ length: BATCH }, (_, i) => ({
          stream: `many-${String(first + i).padStart(6, "0")}`,
          events: [{ type: "Many", data: first + i }],
        }));
        await api("POST", "/v1/append", { streams });
      }
      for (const where of ["/ui/", "/ui/streams?prefix=many-", "/ui/streams?prefix=many-0999", "/ui/categories"]) {
        const page = await open();
        const began = Date.now();
        const answer = await page.goto(OPEN_URL + where);
        ensure(answer.status() === 200, `${where}: ${answer.status()}`);
        ensure((await answer.body()).length < PAGE_WEIGHT_MAX, `${where} is light`);
        ensure(Date.now() - began < SLOW_PAGE_MS, `${where}: ${Date.now() - began} ms`);
        await page.context().close();
      }
      const page = await open();
      await page.goto(`${OPEN_URL}/ui/categories`);
      ensure((await page.locator("tr", { hasText: "many" }).first().innerText()).replace(/\D/g, "").includes("100000"), "all are counted");
      await page.context().close();
    });
  },
};

// README's two: the overview of a server with something to do, and an account.
async function shots() {
  const load = spawn(DAYBOOK_BIN, ["load", "--users", "8", "--seconds", "50", "--url", OPEN_URL], { stdio: "ignore" });
  let going = true;
  load.on("exit", () => { going = false; });
  const append = async (n) => {
    while (going) await api("POST", `/v1/streams/busy-${n}?expected=any`, { type: "Busy", data: { n } });
  };
  await Promise.all([1, 2, 3].map(append));
  for (const [name, where, colorScheme] of [["overview", "/ui/", "light"], ["transfer", PAGES.transfer, "dark"]]) {
    const page = await open({ colorScheme, viewport: { width: 1200, height: 800 } });
    await page.goto(OPEN_URL + where);
    await page.waitForTimeout(2500);
    const file = path.join(SHOTS_DIR, `console-${name}.png`);
    await page.screenshot({ path: file });
    ensure(statSync(file).size < 200 * 1024, `${name} is too large for README`);
    await page.context().close();
  }
}

function passwordFile() {
  const directory = path.join(SECURE_DATA, "dev");
  const found = readdirSync(directory).find((name) => name.includes("password"));
  ensure(found && statSync(path.join(directory, found)).isFile(), `no password in ${directory}`);
  return path.join(directory, found);
}

async function enter(page, login, password) {
  await page.goto(`${SECURE_URL}/ui/login`);
  await page.getByLabel("User").fill(login);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.waitForURL("**/ui/");
}

// Goes on with the Tab key to what has this text.
async function reach(page, text) {
  for (let i = 0; i < 80; i += 1) {
    await page.keyboard.press("Tab");
    const found = await page.evaluate(() => document.activeElement?.textContent?.trim());
    if (found === text) return;
  }
  throw new Error(`the keyboard does not come to "${text}"`);
}

const wanted = process.argv.slice(2);
for (const [name, part] of Object.entries(parts)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  await part();
}
if (wanted.includes("shots")) await shots();
await browser.close();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
