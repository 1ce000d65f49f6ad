// Runs all Node cases against the server at DAYBOOK_URL.

import { main } from "./cases.mjs";
import "./management.mjs";
import "./multi.mjs";
import "./persistent.mjs";
import "./streams.mjs";
import "./subscriptions.mjs";
import "./virtual.mjs";

await main();
