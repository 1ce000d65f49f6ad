// Every page: whole, light, fit for narrow screens, for the dark, and for who has no script.

import { NARROW, OPEN_URL, PAGE_WEIGHT_MAX, SLOW_PAGE_MS, check, ensure, open, seriousOf, shot, untroubled } from "./browser.mjs";
import { PAGES } from "./data.mjs";

const paints = { "a new browser": [], "one that was there before": [] };

export async function pages() {
  for (const [name, where] of Object.entries(PAGES)) {
    await check(`${name}: it is whole, light, and says no wrong`, () => whole(name, where));
    for (const scheme of ["light", "dark"]) {
      await check(`${name}, ${scheme}: axe finds nothing serious`, async () => {
        const page = await open({ colorScheme: scheme });
        await page.goto(OPEN_URL + where);
        await page.evaluate(() => {
          for (const one of document.querySelectorAll("main details")) one.open = true;
        });
        const serious = await seriousOf(page);
        ensure(serious === "", serious);
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
  // Told, and no check: how long it takes is the machine's as much as the page's.
  for (const [when, all] of Object.entries(paints)) {
    all.sort((a, b) => a.ms - b.ms);
    const { name, ms } = all.at(-1);
    const middle = all[Math.floor(all.length / 2)].ms;
    console.log(`first paint in ${when}: median ${middle.toFixed(0)} ms, slowest ${ms.toFixed(0)} ms (${name})`);
  }
}

async function whole(name, where) {
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
  const ms = await painted(page);
  paints["a new browser"].push({ name, ms });
  ensure(ms < SLOW_PAGE_MS, `first paint after ${ms} ms`);
  ensure(weight < PAGE_WEIGHT_MAX, `${weight} bytes`);
  untroubled(page);
  await shot(page, name, true);
  await page.goto("about:blank");
  await page.goto(OPEN_URL + where, { waitUntil: "load" });
  paints["one that was there before"].push({ name, ms: await painted(page) });
  await page.context().close();
}

// When something of the page was first seen, in milliseconds after it was asked for.
async function painted(page) {
  await page.waitForFunction(() => performance.getEntriesByName("first-contentful-paint").length > 0);
  return page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0].startTime);
}
