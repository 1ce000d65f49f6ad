// Runs all Node cases against the server at DAYBOOK_URL.

import { main } from "./cases.mjs";
import "./streams.mjs";
import "./subscriptions.mjs";

await main();
