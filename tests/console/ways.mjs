// One page in every way somebody may meet it: whole and light, in light and dark, on a narrow screen,
// without a script.

import { NARROW, PAGE_WEIGHT_MAX, ROUTES, check, ensure, matches, open, seriousOf, shot, untroubled } from "./browser.mjs";

// Milliseconds to the first paint: several times what a release build takes on a machine that has
// other work, too (docs/console.md), so that it fails for a page and not for its neighbours.
const FIRST_PAINT_MAX_MS = 1500;
const paints = { "a new browser": [], "one that was there before": [] };
// Pages that were met so, by their routes.
const met = new Set();

// `url` is where the page is; `status` its answer; `session` who is logged in, as the browser keeps it.
export async function everyWay(name, url, { status = 200, session } = {}) {
  const options = session ? { storageState: session } : {};
  const visit = async (more, look) => {
    const page = await open({ ...options, ...more });
    const answer = await page.goto(url, { waitUntil: "load" });
    ensure(answer.status() === status && page.url() === url, `${answer.status()} at ${page.url()}`);
    await look(page);
    await page.context().close();
  };
  met.add(matches("get", new URL(url).pathname).route);
  await check(`${name}: it is whole, light, and says no wrong`, () => whole(name, url, options, status));
  await check(`${name}: axe finds nothing serious, in light and dark`, () => visit({}, async (page) => {
    await page.evaluate(() => {
      for (const one of document.querySelectorAll("main details")) one.open = true;
    });
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      const serious = await seriousOf(page);
      ensure(serious === "", `${colorScheme}: ${serious}`);
    }
    await shot(page, `${name}-dark`);
  }));
  await check(`${name}: it fits 380 pixels`, () => visit({ viewport: NARROW }, async (page) => {
    await page.waitForTimeout(50);
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    ensure(width <= NARROW.width, `${width} pixels wide`);
    const folds = await page.locator("[data-menu]").evaluateAll((menus) => menus.every((menu) => !menu.open));
    ensure(folds, "the menu folds");
    await shot(page, `${name}-narrow`);
  }));
  await check(`${name}: it can be read without a script`, () => visit({ javaScriptEnabled: false }, async (page) => {
    ensure((await page.locator("main h1").innerText()).length > 0, "a heading");
    const framed = !url.endsWith("/ui/login");
    ensure(!framed || (await page.locator("nav.menu a").first().isVisible()), "the menu");
  }));
}

async function whole(name, url, options, status) {
  const page = await open(options);
  let weight = 0;
  page.on("response", async (answer) => {
    if (!answer.url().includes("/live") && !answer.url().includes("/feed")) {
      weight += (await answer.body().catch(() => "")).length;
    }
  });
  const answer = await page.goto(url, { waitUntil: "load" });
  ensure(answer.status() === status, `status ${answer.status()}`);
  ensure((await page.locator("h1").count()) === 1, "one heading");
  const ms = await painted(page);
  paints["a new browser"].push({ name, ms });
  ensure(ms < FIRST_PAINT_MAX_MS, `first paint after ${ms} ms`);
  ensure(weight < PAGE_WEIGHT_MAX, `${weight} bytes`);
  untroubled(page);
  await shot(page, name, true);
  await page.goto("about:blank");
  await page.goto(url, { waitUntil: "load" });
  paints["one that was there before"].push({ name, ms: await painted(page) });
  await page.context().close();
}

// When something of the page was first seen, in milliseconds after it was asked for.
async function painted(page) {
  await page.waitForFunction(() => performance.getEntriesByName("first-contentful-paint").length > 0);
  return page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0].startTime);
}

// Told beside what is checked: how long first paints took.
export function tellPaints() {
  for (const [when, all] of Object.entries(paints)) {
    if (all.length === 0) continue;
    all.sort((a, b) => a.ms - b.ms);
    const { name, ms } = all.at(-1);
    const middle = all[Math.floor(all.length / 2)].ms;
    console.log(`first paint in ${when}: median ${middle.toFixed(0)} ms of ${all.length}, slowest ${ms.toFixed(0)} ms (${name})`);
  }
}

// Routes that are asked for and are no pages.
const NO_PAGES = {
  "/ui": "leads to /ui/",
  "/ui/assets/{name}": "what pages load",
  "/ui/live": "what the overview follows",
  "/ui/streams/": "leads to the stream that a form names",
  "/ui/streams/{name}/{revision}/{part}": "what is downloaded of an event",
  "/ui/tail/feed": "what the live tail follows",
};

// Fails for each page of the source that was not met in every way, and for what the list says in vain.
export async function everyPage() {
  const all = [...new Set(ROUTES.filter(({ method }) => method === "get").map(({ route }) => route))];
  await check(`each of the ${all.length - Object.keys(NO_PAGES).length} pages is met in every way`, async () => {
    const missing = all.filter((route) => !met.has(route) && !(route in NO_PAGES));
    ensure(missing.length === 0, `nobody looks at ${missing.join(", ")}`);
    const vain = Object.keys(NO_PAGES).filter((route) => met.has(route) || !all.includes(route));
    ensure(vain.length === 0, `a page after all, or none at all: ${vain.join(", ")}`);
  });
}

// Waits until the line of a chart has points: of `title`, on a page that renews itself.
export async function drawn(page, title, points = 1) {
  const chart = page.locator("figure.chart", { has: page.locator(".title", { hasText: title }) });
  await page.waitForFunction(({ title, points }) => {
    const charts = [...document.querySelectorAll("figure.chart")];
    const one = charts.find((chart) => chart.querySelector(".title").textContent === title);
    const path = one?.querySelector("svg path.line")?.getAttribute("d") ?? "";
    return path.split(/[ML]/).length > points;
  }, { title, points });
  ensure(!(await chart.innerText()).includes("nothing to show yet"), `${title} shows something`);
}
