//! The ledger: accounts, transfers as sagas, risk, and books that always balance.
//!
//! ```text
//!   orchestrator ──> saga, transfer, risk ──┐
//!        │                                  ├──> account ──> money, currency, time
//!        └──> model::Repository<Account> ───┘       └──────> books
//! ```
//!
//! Everything but `orchestrator` is pure: `decide(state, command, now)` gives events or a
//! rejection, `evolve(state, event)` a state. What is stored is described in
//! `docs/ledger-events.md`.
//!
//! INVARIANTS: imports `model` and nothing else of ours; no IO, no thread, and no clock, timer or
//! chance except through `model`'s seams. Per currency all legs of all events sum to zero.

pub mod account;
pub mod books;
pub mod currency;
pub mod money;
pub mod orchestrator;
pub mod risk;
pub mod saga;
pub mod time;
pub mod transfer;

pub use account::{Account, AccountCommand, AccountEvent, AccountRejection, AccountState};
pub use books::Books;
pub use currency::Currency;
