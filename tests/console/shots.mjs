// The screenshots of README.

import { spawn } from "node:child_process";
import { statSync } from "node:fs";
import path from "node:path";

import { DAYBOOK_BIN, OPEN_URL, SHOTS_DIR, api, ensure, open } from "./browser.mjs";
import { PAGES } from "./data.mjs";

// README's two: the overview of a server with something to do, and a transfer.
export async function shots() {
  const load = spawn(DAYBOOK_BIN, ["load", "--users", "8", "--seconds", "50", "--url", OPEN_URL], { stdio: "ignore" });
  let going = true;
  load.on("exit", () => { going = false; });
  const append = async (n) => {
    while (going) await api("POST", `/v1/streams/busy-${n}?expected=any`, { type: "Busy", data: { n } });
  };
  const busy = Promise.all([1, 2, 3].map(append));
  // Long enough for lines to be seen, and the load goes on meanwhile.
  await new Promise((resolve) => setTimeout(resolve, 40_000));
  for (const [name, where, colorScheme] of [["overview", "/ui/", "light"], ["transfer", PAGES.transfer, "dark"]]) {
    const page = await open({ colorScheme, viewport: { width: 1200, height: 800 } });
    await page.goto(OPEN_URL + where);
    await page.waitForTimeout(2500);
    const file = path.join(SHOTS_DIR, `console-${name}.png`);
    await page.screenshot({ path: file });
    ensure(statSync(file).size < 200 * 1024, `${name} is too large for README`);
    await page.context().close();
  }
  await busy;
}
