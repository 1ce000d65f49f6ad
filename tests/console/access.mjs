// Who logs in, and what they may: users, tokens, passwords, the audit log.

import { SECURE_URL, check, ensure, enter, open, password, reach, seriousOf, shot, untroubled } from "./browser.mjs";

const FIRST = "correct horse battery";
const SECOND = "staple correct horse";

export async function access() {
  await check("login, stream and event by the keyboard alone", byKeyboard);
  await check("the login: axe finds nothing serious", async () => {
    const page = await open();
    await page.goto(`${SECURE_URL}/ui/login`);
    const serious = await seriousOf(page);
    ensure(serious === "", serious);
    await page.context().close();
  });
  const page = await open();
  page.on("dialog", (dialog) => dialog.accept());
  await enter(page, "admin", password());
  const bob = await open();
  bob.on("dialog", (dialog) => dialog.accept());
  await check("a user is created, and has other groups", () => created(page, bob));
  await check("a user changes the password, and logs in anew", () => changed(bob));
  await check("an administrator resets it", () => reset(page, bob));
  await check("a token is issued, shown once, and refused once it is revoked", () => tokens(page, bob));
  await check("a user is disabled, enabled, and deleted", () => ended(page, bob));
  await check("the audit log is searched by who, what, outcome and time", () => audited(page));
  await check("the certificate's files are looked at again", async () => {
    await page.goto(`${SECURE_URL}/ui/operations`);
    await page.getByRole("button", { name: "Look at the files now" }).click();
    await page.getByText("Done.").waitFor();
  });
  await check("somebody logs out", async () => {
    untroubled(page);
    await page.getByRole("button", { name: "Log out" }).click();
    await page.waitForURL("**/ui/login");
  });
  await bob.context().close();
  await page.context().close();
}

async function byKeyboard() {
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
  await page.keyboard.type(password());
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
  const safe = cookie?.secure && cookie.httpOnly && cookie.sameSite === "Strict" && cookie.path === "/ui";
  ensure(safe, JSON.stringify(cookies));
  await page.context().close();
}

async function created(page, bob) {
  await page.goto(`${SECURE_URL}/ui/users`);
  await page.getByText("Create a user").click();
  await page.getByLabel("User", { exact: true }).fill("bob");
  await page.getByLabel("Groups, apart by commas").fill("$monitor");
  await page.getByLabel("Password").fill(FIRST);
  await page.getByRole("button", { name: "Create" }).click();
  await page.getByRole("heading", { name: "bob" }).waitFor();
  await enter(bob, "bob", FIRST);
  const offered = await bob.getByRole("link", { name: "Users", exact: true }).count();
  ensure(offered === 0, "nothing is offered that he may not");
  ensure((await bob.goto(`${SECURE_URL}/ui/users`)).status() === 403, "and it is refused");
  await shot(bob, "forbidden");
  await bob.goto(`${SECURE_URL}/ui/`);
  await page.getByLabel("Full name").fill("Bob of Payments");
  await page.getByLabel("Groups, apart by commas").fill("$monitor, ledger-read");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("Done.").waitFor();
  ensure((await page.locator(".facts").innerText()).includes("Bob of Payments"), "his name is kept");
  await shot(page, "user", true);
  await bob.goto(`${SECURE_URL}/ui/`);
  ensure(bob.url().includes("/ui/login"), "he logs in again, to be who he is now");
  await enter(bob, "bob", FIRST);
  ensure((await bob.getByRole("link", { name: "Accounts" }).count()) === 1, "accounts are his");
}

async function changed(bob) {
  await bob.getByRole("link", { name: "bob" }).click();
  const change = async (current, again) => {
    await bob.getByLabel("The one you have").fill(current);
    await bob.getByLabel("The new one", { exact: true }).fill(SECOND);
    await bob.getByLabel("The new one again").fill(again);
    await bob.getByRole("button", { name: "Change" }).click();
  };
  await change(FIRST, "mistyped");
  await bob.getByText("nothing was changed").waitFor();
  await bob.goto(`${SECURE_URL}/ui/password`);
  await shot(bob, "password");
  await change("not mine at all", SECOND);
  await bob.getByText("The password was not changed").first().waitFor();
  await bob.goto(`${SECURE_URL}/ui/password`);
  await change(FIRST, SECOND);
  await bob.waitForURL("**/ui/login**");
  await enter(bob, "bob", SECOND);
}

async function reset(page, bob) {
  await page.goto(`${SECURE_URL}/ui/users/bob`);
  await page.getByLabel("New password").fill(FIRST);
  await page.getByRole("button", { name: "Reset" }).click();
  await page.getByText("Done.").waitFor();
  await bob.goto(`${SECURE_URL}/ui/`);
  ensure(bob.url().includes("/ui/login"), "his session is over");
  await enter(bob, "bob", FIRST);
}

async function tokens(page, bob) {
  await bob.getByRole("link", { name: "API tokens" }).click();
  await bob.getByText("There is no token.").waitFor();
  await bob.getByText("Issue a token").click();
  await bob.getByLabel("What it is for").fill("scraper <1>");
  await bob.getByLabel("Groups it has of them").fill("$monitor");
  await bob.getByLabel("For how long").selectOption("30");
  await bob.getByRole("button", { name: "Issue", exact: true }).click();
  const secret = (await bob.locator(".secret code").innerText()).trim();
  await shot(bob, "token-issued");
  const calls = async () => {
    const headers = { authorization: `Bearer ${secret}` };
    return (await bob.request.get(`${SECURE_URL}/metrics`, { headers })).status();
  };
  ensure((await calls()) === 200, "a machine calls with it");
  await bob.getByRole("link", { name: "I have it" }).click();
  await bob.getByRole("rowheader", { name: "scraper <1>" }).waitFor();
  ensure(!(await bob.content()).includes(secret), "it is not shown again");
  // The administrator finds it by its user, and makes another for them.
  await page.goto(`${SECURE_URL}/ui/tokens`);
  await page.getByLabel("Of the user").fill("bob");
  await page.getByRole("button", { name: "Search" }).click();
  await page.getByText("Issue a token").click();
  ensure((await page.getByLabel("Whose it will be").inputValue()) === "bob", "bob's");
  await shot(page, "tokens-filled", true);
  await page.getByRole("button", { name: "Revoke" }).click();
  await page.getByText("The token was revoked").waitFor();
  ensure((await calls()) === 401, "it is refused at once");
}

async function ended(page, bob) {
  await page.goto(`${SECURE_URL}/ui/users/bob`);
  await bob.goto(`${SECURE_URL}/ui/`);
  await page.getByRole("button", { name: "Disable the user" }).click();
  await page.locator(".heading").getByText("disabled").waitFor();
  await bob.getByText("your session has ended").waitFor();
  await bob.goto(`${SECURE_URL}/ui/`);
  ensure(bob.url().includes("/ui/login"), "he is out");
  await page.getByRole("button", { name: "Enable the user" }).click();
  await page.locator(".heading").getByText("enabled").waitFor();
  await page.getByText("Delete bob").click();
  await page.getByLabel("Type the user's name").fill("bobby");
  await page.getByRole("button", { name: "Delete the user" }).click();
  await page.getByText("nobody was deleted").waitFor();
  await page.goto(`${SECURE_URL}/ui/users/bob`);
  await page.getByText("Delete bob").click();
  await page.getByLabel("Type the user's name").fill("bob");
  await page.getByRole("button", { name: "Delete the user" }).click();
  await page.getByText("Done.").waitFor();
  ensure((await page.getByRole("link", { name: "bob", exact: true }).count()) === 0, "he is gone");
  ensure((await page.goto(`${SECURE_URL}/ui/users/bob`)).status() === 404, "and has no page");
}

async function audited(page) {
  await page.goto(`${SECURE_URL}/ui/audit`);
  const rows = page.locator("tbody tr");
  const search = async (fields) => {
    await page.goto(`${SECURE_URL}/ui/audit`);
    for (const [label, value] of Object.entries(fields)) {
      const field = page.getByLabel(label, { exact: true });
      if (label === "Outcome") await field.selectOption({ label: value });
      else await field.fill(value);
    }
    await page.getByRole("button", { name: "Search" }).click();
    await page.waitForURL("**/ui/audit?**");
    return rows.allInnerTexts();
  };
  const all = (texts, part) => texts.length > 0 && texts.every((text) => text.includes(part));
  ensure(all(await search({ Who: "admin", What: "/ui/users/bob/disable" }), "/ui/users/bob/disable"), "by what");
  await shot(page, "audit-filled");
  ensure(all(await search({ Outcome: "denied" }), "denied"), "by outcome");
  ensure((await search({ Who: "nobody-at-all" })).length === 0, "by who");
  await page.getByText("No such record.").waitFor();
  const year = new Date().getUTCFullYear();
  ensure((await search({ "To, in UTC": `${year - 1}-01-01T00:00:00` })).length === 0, "by its end");
  ensure((await search({ "From, in UTC": `${year - 1}-01-01T00:00` })).length > 0, "by its beginning");
  // Page by page, with the same filter.
  const first = await search({ Who: "admin" });
  if (first.length === 50) {
    await page.getByRole("link", { name: "Older ›" }).click();
    ensure(page.url().includes("who=admin"), "the filter stays");
  }
}
