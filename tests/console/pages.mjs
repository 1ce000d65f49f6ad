// The pages of the two servers, each in every way: one asks nobody who they are, on the other an
// administrator is logged in. Those that need something to go wrong first are with the desk.

import { OPEN_URL, SECURE_URL, enter, open, password } from "./browser.mjs";
import { PAGES, SECURE_PAGES } from "./data.mjs";
import { everyWay } from "./ways.mjs";

export async function pages() {
  for (const [name, where] of Object.entries(PAGES)) {
    await everyWay(name, OPEN_URL + where, { status: name === "nothing" ? 404 : 200 });
  }
  await everyWay("login", `${SECURE_URL}/ui/login`);
  const page = await open();
  await enter(page, "admin", password());
  const session = await page.context().storageState();
  for (const [name, where] of Object.entries(SECURE_PAGES)) {
    await everyWay(name, SECURE_URL + where, { session });
  }
  await page.context().close();
}
