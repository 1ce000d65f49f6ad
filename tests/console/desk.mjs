// What operators do when something is wrong: transfers that failed, messages that are parked,
// projections and connectors that are stopped and go on. A server of its own, whose risk service
// and webhook are here and answer as they are told.

import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import path from "node:path";

import {
  DAYBOOK_BIN, NARROW, SCRATCH_DIR, WIDE, apiOf, check, ensure, open, require, seriousOf, serve, shot, until, untroubled,
} from "./browser.mjs";
import { drawn, everyWay } from "./ways.mjs";

const { KurrentDBClient, PARK, START, jsonEvent, persistentSubscriptionToStreamSettingsFromDefaults } =
  require("@kurrent/kurrentdb-client");

// The largest deposit, and how many of them fill an account, so that nothing can be given back to it.
const LARGEST_AMOUNT = "1000000000000000";
const DEPOSITS = 1000;
const PAYERS = 10;
const OWNER = randomUUID();
const ARCHIVE = path.join(SCRATCH_DIR, "archive");

const said = { risk: "nothing", hook: 400 };
let url;
let api;

export async function desk() {
  const risk = await listen((_, answer) => {
    // Silence, until it is told to speak.
    if (said.risk === "nothing") return;
    answer.end(JSON.stringify({ decision: said.risk, reason: "odd hours" }));
  });
  const hook = await listen((_, answer) => {
    answer.statusCode = said.hook;
    answer.end("no such order");
  });
  const connectors = path.join(SCRATCH_DIR, "connectors.toml");
  writeFileSync(connectors, `[[connector]]
name = "orders"
kind = "webhook"
from = "start"
url = "${hook}/hook"
allow_http = true
secret_env = "HOOK_SECRET"
select = { streams = ["hooked-"] }
`);
  const server = await serve("desk", [
    "--risk-url", `${risk}/check`, "--risk-timeout", "200ms", "--connectors", connectors, "--archive", ARCHIVE,
  ], { HOOK_SECRET: "hunter2" });
  url = server.url;
  api = apiOf(url);
  await check("a transfer that failed is resumed, another given up", failedTransfers);
  await check("a hold is released from its account's page", releasedHold);
  await check("parked messages of a group: why, sent again, discarded", parkedMessages);
  await check("a connector is paused and resumed; its parked messages are retried and discarded", connector);
  await check("a projection is paused and resumed, and rebuilt to its end", projection);
  await check("a projection that a user wrote is paused, resumed and reset", program);
  await check("the archive is brought up at once", archived);
  await check("backups are verified, and restored as their page says; a damaged one is found", backups);
  await check("nothing of it made the server panic", async () => {
    ensure(!server.said().includes("panicked"), server.said().slice(-2000));
  });
}

// A service of ours, and where it is.
async function listen(answer) {
  const service = createServer(answer);
  await new Promise((resolve) => service.listen(0, "127.0.0.1", resolve));
  service.unref();
  return `http://127.0.0.1:${service.address().port}`;
}

const once = (id) => ({ "idempotency-key": id });

async function account(deposit) {
  const id = randomUUID();
  const body = { account_type: "checking", currency: "USD", owner_id: OWNER, initial_deposit: deposit };
  await api("POST", "/v1/accounts", body, once(id));
  return id;
}

async function page(where) {
  const opened = await open();
  opened.on("dialog", (dialog) => dialog.accept());
  await opened.goto(url + where);
  return opened;
}

async function failedTransfers() {
  const [sender, receiver] = [await account("150.00"), await account("0.00")];
  said.risk = "nothing";
  const [kept, lost] = [randomUUID(), randomUUID()];
  for (const [id, amount] of [[kept, "100.00"], [lost, "50.00"]]) {
    const body = { sender_account_id: sender, receiver_account_id: receiver, amount, currency: "USD" };
    await api("POST", "/v1/transfers", body, once(id));
  }
  // Both are debited and wait for the risk service. Now nothing more fits into the sender's account.
  const state = async (id) => (await api("GET", `/v1/sagas/${id}`)).step;
  await until("both to be debited", async () => (await state(kept)) === "check_risk" && (await state(lost)) === "check_risk");
  const fill = async () => {
    for (let n = 0; n < DEPOSITS / PAYERS; n += 1) {
      const body = { amount: LARGEST_AMOUNT, currency: "USD" };
      await api("POST", `/v1/accounts/${sender}/deposits`, body, once(randomUUID()));
    }
  };
  await Promise.all(Array.from({ length: PAYERS }, fill));
  said.risk = "reject";
  for (const id of [kept, lost]) {
    await until("it to fail", async () => (await api("GET", `/v1/transfers/${id}`)).state === "failed");
  }
  const shown = await page("/ui/transfers");
  await shown.getByLabel("State").selectOption("failed");
  await shown.getByRole("button", { name: "Search" }).click();
  await until("both to be listed", async () => {
    await shown.reload();
    return (await shown.locator("tbody tr").count()) === 2;
  });
  await shot(shown, "transfers-failed");
  await everyWay("transfer-failed", `${url}/ui/transfers/${kept}`);
  // Somebody makes room, and it is undone.
  const room = { amount: "100.00", currency: "USD" };
  await api("POST", `/v1/accounts/${sender}/withdrawals`, room, once(randomUUID()));
  await shown.goto(`${url}/ui/transfers/${kept}`);
  await shown.getByText("balance_limit_exceeded").first().waitFor();
  await shown.getByRole("button", { name: "Resume" }).click();
  await shown.getByText("Done.").waitFor();
  await shown.locator(".heading").getByText("compensated").waitFor();
  await shown.getByRole("button", { name: "Resume" }).waitFor({ state: "detached" });
  // The other is paid out by hand.
  await shown.goto(`${url}/ui/transfers/${lost}`);
  await shown.getByLabel("Why, and what was done").fill("paid out by hand");
  await shown.getByRole("button", { name: "Abandon" }).click();
  await shown.locator(".heading").getByText("abandoned").waitFor();
  ensure((await api("GET", "/v1/sagas")).sagas.length === 0, "nothing is open");
  untroubled(shown);
  await shown.context().close();
}

async function releasedHold() {
  const id = await account("80.00");
  await api("POST", `/v1/accounts/${id}/holds`, { amount: "30.00", currency: "USD" }, once(randomUUID()));
  const shown = await page(`/ui/accounts/${id}`);
  const holds = shown.getByRole("region", { name: "Holds" });
  await shot(shown, "account-hold", true);
  await holds.getByPlaceholder("why").fill("the shop is closed");
  await holds.getByRole("button", { name: "Release" }).click();
  await shown.getByText("The hold was released.").waitFor();
  ensure((await holds.count()) === 0, "no money is reserved any more");
  const { available } = await api("GET", `/v1/accounts/${id}`);
  ensure(available === "580.00", `its money is available, and the overdraft: ${available}`);
  ensure((await shown.content()).includes("the shop is closed"), "the history says why");
  untroubled(shown);
  await shown.context().close();
}

async function parkedMessages() {
  const client = KurrentDBClient.connectionString(`kurrentdb://${url.replace("http://", "")}?tls=false`);
  const [stream, group] = ["queue/1 ä", "billing team"];
  const settings = persistentSubscriptionToStreamSettingsFromDefaults({ startFrom: START });
  const events = [1, 2, 3].map((n) => jsonEvent({ type: "OrderPlaced", data: { n } }));
  await client.appendToStream(stream, events);
  await client.createPersistentSubscriptionToStream(stream, group, settings);
  const consumed = async (count, answer) => {
    const messages = client.subscribeToPersistentSubscriptionToStream(stream, group);
    let left = count;
    for await (const message of messages) {
      await answer(messages, message);
      left -= 1;
      if (left === 0) break;
    }
    return messages;
  };
  const asked = `/subscriptions/${encodeURIComponent(stream)}/${encodeURIComponent(group)}/info`;
  const parked = async (n) => until(`${n} to be parked`, async () => (await api("GET", asked)).parkedMessageCount === n);
  const park = (messages, message) => messages.nack(PARK, "no such customer", message);
  const first = await consumed(3, park);
  await parked(3);
  await first.unsubscribe();
  const shown = await page("/ui/subscriptions");
  await shown.getByRole("link", { name: group }).click();
  ensure((await shown.getByText("no such customer").count()) === 3, "it says why, of each");
  await drawn(shown, "Lag");
  await everyWay("subscriptions-parked", `${url}/ui/subscriptions`);
  await everyWay("subscription", shown.url());
  await shown.getByRole("button", { name: "Replay them" }).click();
  await shown.getByText("It has begun.").waitFor();
  const second = await consumed(3, (messages, message) =>
    message.event.data.n === 1 ? messages.ack(message) : park(messages, message));
  await parked(2);
  await second.unsubscribe();
  await shown.reload();
  await shown.getByRole("button", { name: "Discard them" }).click();
  await shown.getByText("Done.").waitFor();
  await parked(0);
  await shown.reload();
  ensure((await shown.getByText("no such customer").count()) === 0, "none is left");
  untroubled(shown);
  await shown.context().close();
  await client.dispose();
}

async function connector() {
  const parked = async () => (await api("GET", "/v1/connectors/orders/parked")).parked.length;
  const delivered = async () => (await api("GET", "/v1/connectors/orders")).delivered;
  said.hook = 400;
  for (const n of [1, 2, 3]) {
    await api("POST", `/v1/streams/hooked-${n}?expected=any`, { type: "OrderPlaced", data: { n } });
  }
  await until("all to be parked", async () => (await parked()) === 3);
  const shown = await page("/ui/connectors");
  const back = () => shown.getByText("Done.").waitFor();
  await shown.getByRole("link", { name: "orders" }).click();
  ensure((await shown.locator("tr", { hasText: "400" }).count()) === 3, "it says why, of each");
  await drawn(shown, "Lag");
  await everyWay("connectors-parked", `${url}/ui/connectors`);
  await everyWay("connector", shown.url());
  // One is not worth it; one is sent again, in vain; then the receiver is mended.
  await shown.locator("tr", { hasText: "hooked-1" }).getByPlaceholder("why").fill("test data");
  await shown.locator("tr", { hasText: "hooked-1" }).getByRole("button", { name: "Discard" }).click();
  await back();
  await until("one to be gone", async () => (await parked()) === 2);
  await shown.goto(`${url}/ui/connectors/orders`);
  said.hook = 200;
  await shown.locator("tr", { hasText: "hooked-2" }).getByRole("button", { name: "Retry" }).click();
  await back();
  await until("it to be delivered", async () => (await parked()) === 1);
  await shown.goto(`${url}/ui/connectors/orders`);
  await shown.getByRole("button", { name: "Retry all" }).click();
  await back();
  await until("the last one, too", async () => (await parked()) === 0);
  await shown.goto(`${url}/ui/connectors/orders`);
  await shown.getByText("No message is parked.").waitFor();
  const before = await delivered();
  await shown.getByRole("button", { name: "Pause" }).click();
  await shown.getByRole("button", { name: "Resume" }).waitFor();
  await api("POST", "/v1/streams/hooked-4?expected=any", { type: "OrderPlaced", data: {} });
  await shown.goto(`${url}/ui/connectors/orders`);
  await shown.getByRole("button", { name: "Resume" }).click();
  await shown.getByRole("button", { name: "Pause" }).waitFor();
  await until("what came meanwhile", async () => (await delivered()) > before);
  untroubled(shown);
  await shown.context().close();
}

async function projection() {
  const shown = await page("/ui/projections/payments");
  const state = async () => api("GET", "/v1/projections/payments");
  const before = (await state()).serving.generation;
  await shown.getByRole("button", { name: "Pause" }).click();
  await until("it to rest", async () => (await state()).paused === true);
  await shown.goto(`${url}/ui/projections/payments`);
  await shown.getByRole("button", { name: "Resume" }).click();
  await until("it to go on", async () => (await state()).paused === false);
  await shown.goto(`${url}/ui/projections/payments`);
  await shown.getByRole("button", { name: "Rebuild" }).click();
  await shown.getByText("Done.").waitFor();
  await until("another generation to serve", async () => (await state()).serving.generation > before);
  await shown.goto(`${url}/ui/projections/payments`);
  const progress = shown.locator("section", { hasText: "What serves" }).locator("progress");
  const [done, all] = await progress.evaluate((bar) => [bar.value, bar.max]);
  ensure(all > 0 && done / all > 0.9, `it is at its end: ${done} of ${all}`);
  await drawn(shown, "Lag", 2);
  untroubled(shown);
  await shown.context().close();
}

async function program() {
  const source = "fromAll().when({ $init: () => ({ count: 0 }), OrderPlaced: (state) => { state.count += 1; } })";
  await api("POST", "/projections/continuous?name=orders-seen&type=js&enabled=true", source);
  const shown = await page("/ui/projections");
  const row = shown.locator("tr", { hasText: "orders-seen" });
  await row.getByText("Running").waitFor();
  const columns = await shown.locator("#programs thead th").allInnerTexts();
  const behind = row.locator("td").nth(columns.findIndex((name) => name.toLowerCase() === "behind"));
  await until("it to be at the end", async () => (await behind.innerText()) === "0");
  await everyWay("projections-programs", `${url}/ui/projections`);
  await row.getByRole("button", { name: "Pause" }).click();
  await row.getByText("Stopped").waitFor();
  // While it rests it falls behind, and its page says so.
  await row.getByRole("link", { name: "orders-seen" }).click();
  for (const n of [1, 2, 3]) {
    await api("POST", "/v1/streams/seen-1?expected=any", { type: "OrderPlaced", data: { n } });
  }
  await shown.getByText("fromAll()").waitFor();
  const lag = shown.locator("dl.facts div", { hasText: "Behind" }).locator("dd");
  await until("it to be behind", async () => Number.parseInt(await lag.innerText(), 10) >= 3);
  await drawn(shown, "Lag", 2);
  await everyWay("program", shown.url());
  await shown.getByRole("button", { name: "Resume" }).click();
  await row.getByText("Running").waitFor();
  await row.getByRole("button", { name: "Reset" }).click();
  await shown.getByText("Done.").waitFor();
  await row.getByText("Running").waitFor();
  await until("it to be at the end again", async () => (await behind.innerText()) === "0");
  const broken = "fromAll().when({ OrderPlaced: (state) => { throw new Error('<odd>'); } })";
  await api("POST", "/projections/continuous?name=orders-broken&type=js&enabled=true", broken);
  await shown.locator("tr", { hasText: "orders-broken" }).getByText("Faulted").waitFor();
  await shown.getByRole("link", { name: "orders-broken" }).click();
  await shown.locator(".notice", { hasText: "<odd>" }).waitFor();
  await shot(shown, "program-faulted", true);
  await shown.goto(`${url}/ui/`);
  await shown.locator("#alerts", { hasText: "The program of a user's projection failed." }).waitFor();
  await shot(shown, "overview-alerts", true);
  untroubled(shown);
  await shown.context().close();
}

async function archived() {
  const shown = await page("/ui/operations");
  await shown.getByRole("button", { name: "Archive now" }).click();
  await shown.getByText("It has begun.").waitFor();
  await until("a round to end", async () => (await api("GET", "/admin/backup/status")).archive.lastSuccess !== null);
  await shot(shown, "operations-archive", true);
  await shown.context().close();
}

async function backups() {
  execFileSync(DAYBOOK_BIN, ["backup", "--to", ARCHIVE, "--url", url]);
  const shown = await page("/ui/operations");
  await shown.getByRole("link", { name: "All backups" }).click();
  const row = (kind) => shown.locator("tbody tr", { has: shown.getByRole("cell", { name: kind, exact: true }) }).first();
  const outcome = shown.locator("#verification .badge");
  const verify = async (kind, result) => {
    // By the keyboard; the outcome comes by itself.
    await row(kind).getByRole("button", { name: "Verify" }).press("Enter");
    await shown.getByText("It has begun.").waitFor();
    await outcome.filter({ hasText: result }).waitFor();
  };
  await verify("archive", "sound");
  await verify("backup", "sound");
  ensure((await shown.locator("#verification").innerText()).includes("backups/"), "it says which");
  for (const [kind, which] of [["archive", "--to-position"], ["backup", "--backup backups/"]]) {
    const more = row(kind).locator("xpath=following-sibling::tr[1]");
    await more.getByText("how to restore it").click();
    const command = await more.locator("pre").innerText();
    ensure(command.includes(which), `it names that backup: ${command}`);
    const said = command.replace(/^daybook/, DAYBOOK_BIN).replace("--data restored", `--data restored-${kind}`);
    execFileSync("sh", ["-c", said], { cwd: SCRATCH_DIR, stdio: "ignore" });
    const events = (await row(kind).locator("td").nth(3).innerText()).replace(/\D/g, "");
    const found = execFileSync(DAYBOOK_BIN, ["verify", "--json", "--data", path.join(SCRATCH_DIR, `restored-${kind}`)]);
    ensure(String(JSON.parse(found).events) === events, `${kind}: ${events} events, and ${found}`);
  }
  await shot(shown, "backups-how-to", true);
  await shown.setViewportSize(NARROW);
  const width = await shown.evaluate(() => document.documentElement.scrollWidth);
  ensure(width <= NARROW.width, `${width} pixels wide, with all of it open`);
  await shot(shown, "backups-how-to-narrow", true);
  const serious = await seriousOf(shown);
  ensure(serious === "", serious);
  await shown.setViewportSize(WIDE);
  // One byte of one object.
  const within = readdirSync(path.join(ARCHIVE, "segments"), { recursive: true, withFileTypes: true });
  const object = within.filter((one) => one.isFile()).map((one) => path.join(one.parentPath, one.name)).sort()[0];
  const bytes = readFileSync(object);
  bytes[bytes.length >> 1] ^= 1;
  writeFileSync(object, bytes);
  await verify("backup", "damaged");
  const alert = await shown.locator("#verification .notice").innerText();
  ensure(alert.includes(path.relative(ARCHIVE, object)), `it names the object: ${alert}`);
  await shot(shown, "backups-damaged", true);
  const damaged = await seriousOf(shown);
  ensure(damaged === "", damaged);
  untroubled(shown);
  await shown.context().close();
}
