// What is large or many does not hang a page.

import { OPEN_URL, PAGE_WEIGHT_MAX, SLOW_PAGE_MS, api, check, ensure, open } from "./browser.mjs";

export async function large() {
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
}
