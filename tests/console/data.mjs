// What is on the open server: the demo's accounts and transfers, and two orders.

import { execFileSync } from "node:child_process";

import { DAYBOOK_BIN, OPEN_URL, api } from "./browser.mjs";

execFileSync(DAYBOOK_BIN, ["demo", "--url", OPEN_URL], { stdio: "ignore" });
const accounts = (await api("GET", "/v1/accounts")).accounts;
const transfers = (await api("GET", "/v1/transfers")).transfers;
const undone = transfers.find((one) => one.state === "compensated" && one.reason.includes("risk"));
export const account = accounts.find((one) => one.status === "active" && one.revision > 3) ?? accounts[0];
await api("POST", "/v1/streams/orders-1?expected=any", [
  { type: "OrderPlaced", data: { total: "12.50", lines: [{ sku: "A-1", count: 2 }] }, metadata: { $correlationId: "c-1" } },
  { type: "OrderPaid", data: { by: "card" }, metadata: { $correlationId: "c-1" } },
]);

export const PAGES = {
  overview: "/ui/",
  streams: "/ui/streams",
  categories: "/ui/categories",
  tail: "/ui/tail",
  stream: "/ui/streams/orders-1",
  event: "/ui/streams/orders-1/0",
  virtual: "/ui/streams/%24ce-ledger.account",
  chain: "/ui/chain/c-1",
  accounts: "/ui/accounts",
  account: `/ui/accounts/${account.account_id}`,
  past: `/ui/accounts/${account.account_id}?revision=1`,
  transfers: "/ui/transfers",
  transfer: `/ui/transfers/${undone.transfer_id}`,
  books: "/ui/books?verify=yes",
  risk: "/ui/risk",
  projections: "/ui/projections",
  projection: "/ui/projections/accounts",
  subscriptions: "/ui/subscriptions",
  connectors: "/ui/connectors",
  operations: "/ui/operations",
  backups: "/ui/operations/backups",
  users: "/ui/users",
  tokens: "/ui/tokens",
  audit: "/ui/audit",
  config: "/ui/config",
  api: "/ui/api",
  nothing: "/ui/nothing",
};

// Pages of somebody who is logged in, on the server that asks.
export const SECURE_PAGES = {
  "secure-overview": "/ui/",
  "secure-stream": "/ui/streams/%24audit",
  "secure-operations": "/ui/operations",
  "secure-users": "/ui/users",
  "secure-user": "/ui/users/admin",
  "secure-password": "/ui/password",
  "secure-tokens": "/ui/tokens",
  "secure-audit": "/ui/audit",
  "secure-config": "/ui/config",
};
