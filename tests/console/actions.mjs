// What somebody does on the pages of a server that asks nobody who they are.

import { readFileSync } from "node:fs";

import { OPEN_URL, api, check, ensure, open, shot, untroubled } from "./browser.mjs";
import { PAGES, account } from "./data.mjs";
import { drawn } from "./ways.mjs";

export async function actions() {
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
  await check("charts of throughput, writes and fdatasync have lines, and the disk a forecast", async () => {
    const page = await open();
    await page.goto(`${OPEN_URL}/ui/`);
    let going = true;
    const busy = (async () => {
      while (going) await api("POST", "/v1/streams/busy-1?expected=any", { type: "Busy", data: 1 });
    })();
    for (const title of ["Throughput", "Time of a write", "Time of fdatasync"]) await drawn(page, title, 3);
    going = false;
    await busy;
    // A trend needs more minutes than a suite has: until then it says that none is known.
    const disk = page.locator("#figures .tile", { hasText: "Disk free" });
    ensure(/[1-9][\d.]* [KMGT]iB\s*(not filling|full in \d)/.test(await disk.innerText()), await disk.innerText());
    untroubled(page);
    await page.context().close();
  });
  await check("event types of all of the log are listed with counts, page by page", async () => {
    const KINDS = 70;
    const events = Array.from({ length: KINDS }, (_, n) => ({ type: `Kind${String(n).padStart(2, "0")}`, data: n }));
    await api("POST", "/v1/streams/kinds-1?expected=any", [...events, events[69]]);
    // Far more than a page's worth of other events come after.
    const later = Array.from({ length: 600 }, () => ({ type: "Later", data: 0 }));
    await api("POST", "/v1/streams/kinds-1?expected=any", later);
    const page = await open();
    await page.goto(`${OPEN_URL}/ui/categories`);
    const rows = page.getByRole("region", { name: "Event types" }).locator("tbody tr");
    const found = new Map();
    for (;;) {
      for (const text of await rows.allInnerTexts()) {
        const [kind, events] = text.split("\t");
        ensure(!found.has(kind), `${kind} twice`);
        found.set(kind, Number(events.replace(/\D/g, "")));
      }
      const next = page.getByRole("link", { name: "Next types »" });
      if ((await next.count()) === 0) break;
      await next.click();
    }
    ensure([...found.keys()].filter((kind) => kind.startsWith("Kind")).length === KINDS, `${found.size} types`);
    ensure(found.get("Kind00") === 1 && found.get("Kind69") === 2 && found.get("Later") === 600, "with counts");
    ensure([...found.keys()].join() === [...found.keys()].sort().join(), "by name");
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
    await page.locator(".pulse", { hasText: "1 more since" }).waitFor();
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
  await check("an account is shown as it was, by the keyboard, which is told when that was", async () => {
    const page = await open();
    await page.goto(OPEN_URL + PAGES.account);
    const slider = page.locator("#revision");
    const told = async () => [await page.locator("#at-revision").innerText(), await slider.getAttribute("aria-valuetext")];
    await slider.focus();
    await slider.press("Home");
    for (const text of await told()) {
      ensure(/0 of \d+.* \d{4}-\d\d-\d\d \d\d:\d\d:\d\d/.test(text), `it says the moment: ${text}`);
    }
    await slider.press("ArrowRight");
    ensure((await told())[0].startsWith("1 of "), "one step on");
    ensure((await told())[0].includes("balance"), "and the balance");
    await slider.press("Enter");
    await page.getByText("as it was after its event 1").waitFor();
    const focused = await page.evaluate(() => document.activeElement.id);
    ensure(focused === "revision", "the keyboard stays at the slider");
    await page.getByRole("link", { name: "Back to now" }).click();
    await page.locator("#at").fill(new Date().toISOString());
    await page.locator("form", { has: page.locator("#at") }).getByRole("button").click();
    await page.getByText("as it was after its event").waitFor();
    untroubled(page);
    await page.context().close();
  });
  await check("an account's slider goes where a pointer lets it go", async () => {
    const page = await open();
    await page.goto(OPEN_URL + PAGES.account);
    const box = await page.locator("#revision").boundingBox();
    await page.mouse.click(box.x + 4, box.y + box.height / 2);
    await page.getByText("as it was after its event 0").waitFor();
    await page.context().close();
  });
  await check("a chart says what was, where the pointer is and by arrow keys", async () => {
    const page = await open();
    await page.goto(OPEN_URL + PAGES.account);
    const scrub = page.getByRole("slider", { name: "Balance over time" });
    const tip = page.locator(".chart .tip");
    const box = await scrub.boundingBox();
    await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
    await tip.waitFor();
    ensure(/UTC\s+balance [\d\u202f.]+ [A-Z]{3}/.test(await tip.innerText()), await tip.innerText());
    await shot(page, "chart-tip");
    await page.mouse.move(0, 0);
    await tip.waitFor({ state: "hidden" });
    await scrub.focus();
    // The moments may be of one second, and the balances the same: their places are not.
    const last = await scrub.inputValue();
    await scrub.press("Home");
    const [first, said] = [await scrub.inputValue(), await scrub.getAttribute("aria-valuetext")];
    ensure(said.includes("balance") && first === "0" && last !== "0", `${first} of ${last}: ${said}`);
    ensure(await tip.isVisible(), "it is shown, too");
    untroubled(page);
    await page.context().close();
  });
  await check("lists are searched: streams, accounts, transfers, the tail, tokens and records", async () => {
    const page = await open();
    const search = async (where, fields, button) => {
      await page.goto(OPEN_URL + where);
      for (const [id, value] of Object.entries(fields)) {
        const field = page.locator(`#${id}`);
        if ((await field.evaluate((one) => one.tagName)) === "SELECT") await field.selectOption(value);
        else await field.fill(value);
      }
      const form = page.locator("form", { has: page.locator(`#${Object.keys(fields)[0]}`) });
      await form.getByRole("button", { name: button }).click();
      await page.waitForURL("**?**");
    };
    const rows = page.locator("main tbody tr");
    await search("/ui/streams", { prefix: "orders-" }, "Search");
    ensure((await rows.allInnerTexts()).every((text) => text.startsWith("orders-")), "streams by prefix");
    await search("/ui/accounts", { currency: account.currency, status: "active" }, "Search");
    const active = await rows.allInnerTexts();
    ensure(active.length > 0 && active.every((text) => text.includes("active")), "accounts by state");
    await search("/ui/transfers", { state: "compensated", since: "all" }, "Search");
    const undone = await rows.allInnerTexts();
    ensure(undone.length > 0 && undone.every((text) => text.includes("compensated")), "transfers by state");
    await search("/ui/tail", { type_prefix: "Order" }, "Follow");
    await page.locator(".pulse", { hasText: "live" }).waitFor();
    await api("POST", "/v1/streams/orders-3?expected=any", { type: "Other", data: 1 });
    await api("POST", "/v1/streams/orders-3?expected=any", { type: "OrderPlaced", data: 1 });
    await rows.first().waitFor();
    ensure((await rows.count()) === 1 && (await rows.innerText()).includes("OrderPlaced"), "the tail by type");
    untroubled(page);
    await page.context().close();
  });
  await check("transfers stand newest first, page by page", async () => {
    const page = await open();
    await page.goto(`${OPEN_URL}/ui/transfers?since=all`);
    const times = await page.locator("tbody time").evaluateAll((all) => all.map((one) => one.dateTime));
    ensure(times.length > 1, "some are there");
    ensure(times.every((time, i) => i === 0 || times[i - 1] >= time), `newest first: ${times}`);
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
  await check("more is logged, and what is no filter is refused", async () => {
    const page = await open();
    await page.goto(OPEN_URL + PAGES.config);
    const set = async (filter) => {
      await page.getByText("Logged now").click();
      await page.getByLabel("What is logged until the next start").fill(filter);
      await page.getByRole("button", { name: "Log this" }).click();
    };
    await set("info,daybook_store=debug");
    await page.getByText("Done.").waitFor();
    ensure((await api("GET", "/admin/log")).filter === "info,daybook_store=debug", "it is so");
    await set("daybook_store=loudly");
    await page.locator("[role=alert]").waitFor();
    await page.goto(OPEN_URL + PAGES.config);
    await set("info");
    await page.getByText("Done.").waitFor();
    await page.context().close();
  });
  await check("a stream's events stand newest first, page by page and back", async () => {
    const EVENTS = 60;
    const events = Array.from({ length: EVENTS }, (_, n) => ({ type: "Paged", data: { n } }));
    await api("POST", "/v1/streams/paged-1?expected=any", events);
    const page = await open();
    await page.goto(`${OPEN_URL}/ui/streams/paged-1`);
    const numbers = async () => (await page.locator("tbody td:first-child").allInnerTexts()).map(Number);
    const first = await numbers();
    const found = [...first];
    while ((await page.getByRole("link", { name: "Older ›" }).count()) > 0) {
      await page.getByRole("link", { name: "Older ›" }).click();
      await page.locator("tbody tr").first().waitFor();
      found.push(...(await numbers()));
    }
    ensure(found.join() === events.map((_, n) => EVENTS - 1 - n).join(), `all, once: ${found}`);
    await page.getByRole("link", { name: "« Newest" }).click();
    ensure((await numbers()).join() === first.join(), "back at the newest");
    await page.getByRole("link", { name: "Follow live" }).click();
    await page.locator(".pulse", { hasText: "live" }).waitFor();
    await api("POST", "/v1/streams/paged-1?expected=any", { type: "Paged", data: 1 });
    await page.locator("[data-feed-rows] tbody tr").first().waitFor();
    untroubled(page);
    await page.context().close();
  });
  await check("an error is a page that says what to do", async () => {
    const page = await open();
    await page.goto(`${OPEN_URL}/ui/accounts/not-an-id`);
    ensure((await page.locator("[role=alert]").innerText()).includes("UUID"), "it names what is wrong");
    ensure(await page.locator("nav.menu").isVisible(), "within the frame");
    await page.context().close();
  });
}
