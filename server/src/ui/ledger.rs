//! The ledger: accounts and what happened to them, transfers, the books, the rules of risk.
//!
//! ```text
//!   /ui/accounts[/{id}]                       lists, one, as it was     accounts, account, travel
//!   /ui/accounts/{id}/{freeze|…}              what is done about it     standing
//!   /ui/accounts/{id}/holds/{hold}/release    what is reserved of it    holds
//!   /ui/transfers[/{id}[/{resume|abandon}]]   lists, one with its steps transfers
//!   /ui/books                                 the trial balance         books
//!   /ui/risk                                  the rules                 risk
//! ```

pub mod account;
pub mod accounts;
pub mod books;
pub mod holds;
pub mod risk;
pub mod standing;
pub mod transfers;
pub mod travel;

use super::Ui;
use super::api::Trouble;
use super::form::Fields;
use super::visitor::Visit;
use crate::security::gate::{Gate, Routes};
use crate::security::rights::Right;

/// The routes of this room.
pub fn routes(gate: &Gate) -> Routes<Ui> {
    use Right::{AuditLedger, FreezeAccounts, MoveMoney, ReadLedger, SettleSagas};
    Routes::new(gate)
        .get("/ui/accounts", ReadLedger, accounts::show)
        .get("/ui/accounts/{account_id}", ReadLedger, account::show)
        .post("/ui/accounts/{account_id}/freeze", FreezeAccounts, standing::freeze)
        .post("/ui/accounts/{account_id}/unfreeze", FreezeAccounts, standing::unfreeze)
        .post("/ui/accounts/{account_id}/flag", FreezeAccounts, standing::flag)
        .post("/ui/accounts/{account_id}/unflag", FreezeAccounts, standing::unflag)
        .post("/ui/accounts/{account_id}/holds/{hold_id}/release", MoveMoney, holds::release)
        .get("/ui/transfers", ReadLedger, transfers::show)
        .get("/ui/transfers/{transfer_id}", ReadLedger, transfers::one)
        .post("/ui/transfers/{transfer_id}/resume", SettleSagas, transfers::resume)
        .post("/ui/transfers/{transfer_id}/abandon", SettleSagas, transfers::abandon)
        .get("/ui/books", AuditLedger, books::show)
        .get("/ui/risk", ReadLedger, risk::show)
        .post("/ui/risk", FreezeAccounts, risk::set)
}

/// Who does it, as the ledger keeps it.
fn by(visit: &Visit) -> &str {
    visit.visitor().caller().login().unwrap_or("somebody at the console")
}

/// The key of a command, that its form was made with: a form that is sent twice is done once.
fn key(fields: &Fields) -> Result<uuid::Uuid, Trouble> {
    let key = fields.needed("key")?.parse();
    key.map_err(|_| Trouble::bad("the form's key is not a UUID; reload the page"))
}
