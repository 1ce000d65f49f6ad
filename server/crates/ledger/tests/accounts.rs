//! The rules of accounts, one line a case: what is done, and what comes of the last of it.
//!
//! Steps are separated by `;`. All but the last must be accepted. After `=>` stands the word of
//! the rejection, or figures of the account at that time. The clock starts at midnight UTC;
//! `+1d`, `+59m`, `-1ns` move it. Commands are those of [`command`], amounts are in the account's
//! currency unless another follows.

use daybook_ledger::account::{
    Account, AccountCommand, AccountEvent, AccountRejection, AccountType, CaptureHold,
    ChangeLimits, CloseAccount, FlagAccount, FreezeAccount, MoveMoney, MoveTransfer, OpenAccount,
    PlaceHold, RefundTransfer, ReleaseHold, UnflagAccount, UnfreezeAccount,
};
use daybook_ledger::books::{Books, ContraAccount};
use daybook_ledger::currency::Currency;
use daybook_ledger::time;
use daybook_model::{Aggregate, ContentType, EventView, Position, Revision, Timestamp};
use rust_decimal::Decimal;
use uuid::Uuid;

const RULES: &str = "
# Opening
open checking USD                             => balance=0.00 available=500.00 overdraft=500.00 daily=5000.00
open checking USD 0                           => balance=0.00 events=AccountOpened
open checking USD 0.01                        => balance=0.01 available=500.01 withdrawn=0.00 status=active
open checking JPY 7                           => balance=7 available=507 overdraft=500 daily=5000
open checking KWD 7.125                       => balance=7.125 available=507.125
open checking USD 10.001                      => invalid_amount
open checking JPY 1.5                         => invalid_amount
open checking USD -1                          => invalid_amount
open checking USD 1000000000000000            => balance=1000000000000000.00
open checking USD 1000000000000000.01         => invalid_amount
open checking USD overdraft=0                 => available=0.00 overdraft=0.00
open checking USD overdraft=0.01              => available=0.01
open checking USD overdraft=-1                => invalid_amount
open checking USD overdraft=0.001             => invalid_amount
open checking USD credit=100                  => credit_limit_not_allowed
open checking USD daily=0                     => daily=0.00
open checking USD daily=-0.01                 => invalid_amount
open savings USD                              => initial_deposit_too_small
open savings USD 0                            => initial_deposit_too_small
open savings USD 99.99                        => initial_deposit_too_small
open savings USD 100                          => balance=100.00 available=100.00 overdraft=0.00
open savings JPY 99                           => initial_deposit_too_small
open savings JPY 100                          => balance=100
open savings USD 100 overdraft=0              => overdraft=0.00
open savings USD 100 overdraft=0.01           => overdraft_not_allowed
open savings USD 100 credit=100               => credit_limit_not_allowed
open credit USD                               => credit_limit_required
open credit USD credit=0                      => available=0.00
open credit USD credit=250                    => balance=0.00 available=250.00 overdraft=250.00
open credit USD credit=250 overdraft=1        => overdraft_not_allowed
open credit USD credit=-1                     => invalid_amount
open checking USD; open checking USD          => account_exists

# Nothing happens to an account that does not exist
deposit 1                                     => account_not_found
withdraw 1                                    => account_not_found
fee 1                                         => account_not_found
hold a 1                                      => account_not_found
capture a                                     => account_not_found
release a                                     => account_not_found
freeze                                        => account_not_found
unfreeze                                      => account_not_found
close                                         => account_not_found
limits daily=1                                => account_not_found
flag                                          => account_not_found
unflag                                        => account_not_found
debit 1                                       => account_not_found
credit 1                                      => account_not_found
refund 1                                      => account_not_found

# Deposits
open checking USD; deposit 0.01               => balance=0.01 events=MoneyDeposited withdrawn=0.00
open checking USD; deposit 10                 => balance=10.00
open checking USD; deposit 0                  => amount_not_positive
open checking USD; deposit -1                 => invalid_amount
open checking USD; deposit 0.001              => invalid_amount
open checking USD; deposit 1 EUR              => currency_mismatch
open checking USD; deposit 1000000000000000   => balance=1000000000000000.00
open checking USD; deposit 1000000000000001   => invalid_amount

# Withdrawals: available money
open checking USD 100; withdraw 600           => balance=-500.00 available=0.00 events=MoneyWithdrawn
open checking USD 100; withdraw 600.01        => insufficient_funds
open checking USD 100 overdraft=0; withdraw 100    => balance=0.00
open checking USD 100 overdraft=0; withdraw 100.01 => insufficient_funds
open savings USD 100; withdraw 100            => balance=0.00
open savings USD 100; withdraw 100.01         => insufficient_funds
open credit USD credit=250; withdraw 250      => balance=-250.00 available=0.00
open credit USD credit=250; withdraw 250.01   => insufficient_funds
open checking USD 100; withdraw 0             => amount_not_positive
open checking USD 100; withdraw -1            => invalid_amount
open checking USD 100; withdraw 1.001         => invalid_amount
open checking USD 100; withdraw 1 EUR         => currency_mismatch
open checking USD 100; withdraw 600; deposit 0.01; withdraw 0.01 => balance=-500.00
open checking USD 100; withdraw 600; withdraw 0.01               => insufficient_funds

# Withdrawals: the daily limit, by UTC day
open checking USD 9000; withdraw 5000                          => withdrawn=5000.00
open checking USD 9000; withdraw 5000.01                       => daily_limit_exceeded
open checking USD 9000; withdraw 4999.99; withdraw 0.01        => withdrawn=5000.00
open checking USD 9000; withdraw 4999.99; withdraw 0.02        => daily_limit_exceeded
open checking USD 9000; withdraw 5000; +1d; -1ns; withdraw 1   => daily_limit_exceeded
open checking USD 9000; withdraw 5000; +1d; withdraw 4000      => withdrawn=4000.00 balance=0.00
open checking USD 9000; +23h; withdraw 5000; +1h; withdraw 1   => withdrawn=1.00
open checking USD 9000; withdraw 5000; +1d; look               => withdrawn=0.00
open checking USD 9000; withdraw 5000; deposit 5000; withdraw 1 => daily_limit_exceeded
open checking USD 9000 daily=0; withdraw 0.01                  => daily_limit_exceeded
open checking USD 9000 daily=10; withdraw 10                   => withdrawn=10.00
open checking USD 9000 daily=10; debit 6; hold a 3; withdraw 1 => withdrawn=10.00
open checking USD 9000 daily=10; debit 6; hold a 3; withdraw 1.01 => daily_limit_exceeded
open checking USD 9000 daily=10; debit 6; hold a 3; debit 1.01 => daily_limit_exceeded
open checking USD 9000 daily=10; debit 6; hold a 3; hold b 1.01 => daily_limit_exceeded

# The account's time never goes backwards
open checking USD 9000; +1d; withdraw 5000; -1d; withdraw 1    => daily_limit_exceeded
open checking USD 9000; +1d; withdraw 1; -1d; deposit 1        => updated=+1d
open checking USD 9000; +1h; deposit 1; -30m; hold a 1 expires=+15m => hold_expiry_in_past
open checking USD 9000; +1h; hold a 1 expires=+1h; -2h; capture a   => balance=8999.00 updated=+1h

# Fees: need available money, do not count for the day
open checking USD 9000 daily=10; withdraw 10; fee 50           => balance=8940.00 withdrawn=10.00 events=FeeCharged
open checking USD; fee 500                                     => balance=-500.00
open checking USD; fee 500.01                                  => insufficient_funds
open checking USD; fee 0                                       => amount_not_positive
open checking USD; fee 1 EUR                                   => currency_mismatch
open checking USD 100; hold a 600; fee 0.01                    => insufficient_funds

# Holds: placing
open checking USD 100; hold a 40                               => balance=100.00 available=560.00 held=40.00 holds=1 withdrawn=40.00 events=HoldPlaced
open checking USD 100; hold a 600                              => available=0.00 held=600.00
open checking USD 100; hold a 600.01                           => insufficient_funds
open checking USD 100; hold a 600; hold b 0.01                 => insufficient_funds
open checking USD 9000; hold a 5000                            => withdrawn=5000.00
open checking USD 9000; hold a 5000.01                         => daily_limit_exceeded
open checking USD 100; hold a 0                                => amount_not_positive
open checking USD 100; hold a 1.001                            => invalid_amount
open checking USD 100; hold a 1 EUR                            => currency_mismatch
open checking USD 100; hold a 40; hold a 1                     => hold_exists
open checking USD 100; hold a 40 expires=+1ns                  => held=40.00
open checking USD 100; hold a 40 expires=+0s                   => hold_expiry_in_past
open checking USD 100; hold a 40 expires=-1s                   => hold_expiry_in_past
open checking USD 100; hold a 600; withdraw 0.01               => insufficient_funds
open checking USD 100; hold a 600; debit 0.01                  => insufficient_funds

# Holds: capturing
open checking USD 100; hold a 40; capture a                    => balance=60.00 available=560.00 held=0.00 holds=0 withdrawn=40.00 events=HoldCaptured
open checking USD 100; hold a 40; capture a 40                 => holds=0 held=0.00
open checking USD 100; hold a 40; capture a 15                 => balance=85.00 available=560.00 held=25.00 holds=1 withdrawn=40.00
open checking USD 100; hold a 40; capture a 15; capture a      => balance=60.00 held=0.00 holds=0
open checking USD 100; hold a 40; capture a 15; capture a 25.01 => capture_exceeds_hold
open checking USD 100; hold a 40; capture a 40.01              => capture_exceeds_hold
open checking USD 100; hold a 40; capture a 0                  => amount_not_positive
open checking USD 100; hold a 40; capture a 0.001              => invalid_amount
open checking USD 100; capture a                               => hold_not_found
open checking USD 100; hold a 40; capture b                    => hold_not_found
open checking USD 100; hold a 40; capture a; capture a         => hold_not_found
open checking USD 100; hold a 40; hold b 2; capture a; look    => held=2.00 holds=1
open checking USD 100; hold a 600; capture a                   => balance=-500.00 available=0.00
open checking USD 9000; hold a 5000; +1d; capture a            => withdrawn=0.00 balance=4000.00
open checking USD 100; hold a 40; capture a; hold a 2          => held=2.00

# Holds: releasing
open checking USD 100; hold a 40; release a                    => balance=100.00 available=600.00 held=0.00 holds=0 withdrawn=0.00 events=HoldReleased
open checking USD 100; hold a 40; capture a 15; release a      => balance=85.00 held=0.00 withdrawn=15.00
open checking USD 100; release a                               => hold_not_found
open checking USD 100; hold a 40; release a; release a         => hold_not_found
open checking USD 9000; hold a 5000; +1d; withdraw 1; release a => withdrawn=1.00
open checking USD 9000; hold a 5000; release a; withdraw 5000  => withdrawn=5000.00

# Holds: expiring. Nothing is reserved from that moment on; the next command says so first.
open checking USD 100; hold a 40 expires=+1h; +1h; -1ns; look      => held=40.00 holds=1 withdrawn=40.00
open checking USD 100; hold a 40 expires=+1h; +1h; look            => held=0.00 holds=0 available=600.00 withdrawn=0.00
open checking USD 100; hold a 40 expires=+1h; +1h; deposit 1       => events=HoldExpired,MoneyDeposited held=0.00 balance=101.00 withdrawn=0.00
open checking USD 100; hold a 40 expires=+1h; +1h; -1ns; deposit 1 => events=MoneyDeposited held=40.00
open checking USD 100; hold a 600 expires=+1h; +1h; withdraw 600   => events=HoldExpired,MoneyWithdrawn balance=-500.00 available=0.00
open checking USD 100; hold a 600 expires=+1h; +1h; withdraw 600.01 => insufficient_funds
open checking USD 100; hold a 40 expires=+1h; +1h; capture a       => hold_not_found
open checking USD 100; hold a 40 expires=+1h; +1h; -1ns; capture a => balance=60.00
open checking USD 100; hold a 40 expires=+1h; +1h; release a       => hold_not_found
open checking USD 100; hold a 40 expires=+1h; +1h; hold a 2        => events=HoldExpired,HoldPlaced held=2.00 holds=1
open checking USD 100; hold a 40 expires=+1h; hold b 2 expires=+2h; +2h; freeze => events=HoldExpired,HoldExpired,AccountFrozen
open checking USD 100; hold a 40 expires=+1h; hold b 2; capture a 15; +1h; deposit 1 => held=2.00 balance=86.00 withdrawn=17.00
open checking USD 9000; hold a 4 expires=+34h; +33h; withdraw 5; +2h; look => withdrawn=5.00 held=0.00
open checking USD 9000; hold a 4 expires=+34h; +33h; withdraw 5; +2h; deposit 1 => withdrawn=5.00
open checking USD 9000; hold a 5000 expires=+1h; +1h; withdraw 5000 => withdrawn=5000.00
open checking USD 9000; hold a 5000 expires=+1d; +1d; withdraw 1   => withdrawn=1.00
open checking USD 9000; hold a 5000 expires=+1d; +1d; withdraw 5000.01 => daily_limit_exceeded
open checking USD overdraft=0 daily=9; deposit 9; hold a 9 expires=+1h; +1h; withdraw 9; close => status=closed

# Freezing
open checking USD 100; freeze                                  => status=frozen events=AccountFrozen
open checking USD 100; freeze; freeze                          => already_frozen
open checking USD 100; unfreeze                                => not_frozen
open checking USD 100; freeze; unfreeze                        => status=active events=AccountUnfrozen
open checking USD 100; freeze; unfreeze; withdraw 1            => balance=99.00
open checking USD 100; freeze; deposit 1                       => balance=101.00
open checking USD 100; freeze; credit 1                        => balance=101.00
open checking USD 100; debit 5; freeze; refund 5               => balance=100.00
open checking USD 100; hold a 40; freeze; release a            => held=0.00
open checking USD 100; hold a 40 expires=+1h; freeze; +1h; deposit 1 => events=HoldExpired,MoneyDeposited
open checking USD 100; freeze; withdraw 1                      => account_frozen
open checking USD 100; freeze; fee 1                           => account_frozen
open checking USD 100; freeze; debit 1                         => account_frozen
open checking USD 100; freeze; hold a 1                        => account_frozen
open checking USD 100; hold a 40; freeze; capture a            => account_frozen
open checking USD; freeze; close                               => account_frozen
open checking USD 100; freeze; limits daily=1                  => daily=1.00
open checking USD 100; freeze; flag                            => flagged=yes

# Closing
open checking USD; close                                       => status=closed events=AccountClosed
open checking USD 0.01; close                                  => balance_not_zero
open checking USD; withdraw 0.01; close                        => balance_not_zero
open checking USD; hold a 1; close                             => holds_open
open checking USD; hold a 1; release a; close                  => status=closed
open checking USD; hold a 1 expires=+1h; +1h; close            => events=HoldExpired,AccountClosed
open checking USD; close; close                                => account_closed
open checking USD; close; open checking USD                    => account_exists
open checking USD; close; deposit 1                            => account_closed
open checking USD; close; withdraw 1                           => account_closed
open checking USD; close; fee 1                                => account_closed
open checking USD; close; hold a 1                             => account_closed
open checking USD; close; capture a                            => account_closed
open checking USD; close; release a                            => account_closed
open checking USD; close; freeze                               => account_closed
open checking USD; close; unfreeze                             => account_closed
open checking USD; close; limits daily=1                       => account_closed
open checking USD; close; flag                                 => account_closed
open checking USD; flag; close; unflag                         => account_closed
open checking USD; close; debit 1                              => account_closed
open checking USD; close; credit 1                             => account_closed
open checking USD; close; refund 1                             => account_closed

# Limits
open checking USD; limits daily=10                             => daily=10.00 overdraft=500.00 events=LimitsChanged
open checking USD; limits overdraft=10                         => daily=5000.00 overdraft=10.00 available=10.00
open checking USD; limits overdraft=10 daily=20                => daily=20.00 overdraft=10.00
open checking USD; limits                                      => nothing_to_change
open checking USD; limits daily=-1                             => invalid_amount
open checking USD; limits overdraft=0.001                      => invalid_amount
open checking USD; withdraw 200; limits overdraft=200          => overdraft=200.00 available=0.00
open checking USD; withdraw 200; limits overdraft=199.99       => limit_below_debt
open checking USD 50; hold a 100; limits overdraft=50          => available=0.00
open checking USD 50; hold a 100; limits overdraft=49.99       => limit_below_debt
open checking USD 50; hold a 100 expires=+1h; +1h; limits overdraft=0 => available=50.00
open checking USD 50; limits overdraft=0; withdraw 50.01       => insufficient_funds
open checking USD; limits overdraft=501; withdraw 501          => balance=-501.00
open checking USD 9; withdraw 9; limits daily=1; withdraw 0.01 => daily_limit_exceeded
open checking USD 9000; limits daily=6000; withdraw 6000       => withdrawn=6000.00
open savings USD 100; limits overdraft=0.01                    => overdraft_not_allowed
open savings USD 100; limits overdraft=0                       => overdraft=0.00
open credit USD credit=5; limits overdraft=9                   => available=9.00

# Flags
open checking USD; flag                                        => flagged=yes events=AccountFlagged
open checking USD; flag; flag                                  => flagged=yes events=AccountFlagged
open checking USD; flag; unflag                                => flagged=no events=AccountUnflagged
open checking USD; unflag                                      => not_flagged
open checking USD 10; flag; withdraw 1                         => balance=9.00
open checking USD 10; flag; debit 1                            => balance=9.00

# Transfers
open checking USD 100; debit 600                               => balance=-500.00 withdrawn=600.00 hour=1 day=1 events=TransferDebited
open checking USD 100; debit 600.01                            => insufficient_funds
open checking USD 100; debit 1 EUR                             => currency_mismatch
open checking USD 100; debit 0                                 => amount_not_positive
open checking USD 9000; debit 5000.01                          => daily_limit_exceeded
open checking USD 9000; debit 5000                             => withdrawn=5000.00
open checking USD; credit 5                                    => balance=5.00 withdrawn=0.00 hour=0 events=TransferCredited
open checking USD; credit 5 EUR                                => currency_mismatch
open checking USD; credit 0                                    => amount_not_positive
open checking USD 9; debit 5; refund 5                         => balance=9.00 withdrawn=0.00 hour=1 events=TransferRefunded
open checking USD 9; debit 5; withdraw 2; refund 5             => balance=7.00 withdrawn=2.00
open checking USD 9; debit 5; +1d; withdraw 2; refund 5 debited=-1d => balance=7.00 withdrawn=2.00
open checking USD 9; debit 5; +1d; -1ns; refund 5 debited=-23h => withdrawn=0.00
open checking USD 9; refund 5 EUR                              => currency_mismatch
open checking USD 9; refund 0                                  => amount_not_positive
open checking USD 9000 daily=5; debit 5; refund 5; debit 5     => withdrawn=5.00 hour=2

# How many transfers left, by UTC hour and UTC day
open checking USD 9; debit 1; debit 1                          => hour=2 day=2
open checking USD 9; debit 1; +1h; -1ns; debit 1               => hour=2 day=2
open checking USD 9; debit 1; +1h; debit 1                     => hour=1 day=2
open checking USD 9; debit 1; +1h; look                        => hour=0 day=1
open checking USD 9; debit 1; +23h; debit 1; +1h; look         => hour=0 day=0
open checking USD 9; debit 1; +1d; debit 1                     => hour=1 day=1
open checking USD 9; debit 1; withdraw 1; fee 1                => hour=1 day=1
";

/// Midnight of 2026-03-02, UTC.
const START: i64 = 1_772_409_600_000_000_000;

fn id(name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
}

fn decimal(text: &str) -> Decimal {
    text.parse().unwrap_or_else(|_| panic!("'{text}' is a decimal"))
}

/// Nanoseconds of `+1d`, `-30m`, `+1ns`.
fn duration(text: &str) -> Option<i64> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits = text[1..].trim_end_matches(char::is_alphabetic);
    let unit = match &text[1 + digits.len()..] {
        "ns" => 1,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return None,
    };
    Some(sign * digits.parse::<i64>().ok()? * unit)
}

/// The arguments of one step: words, and `key=value`.
struct Step<'a>(Vec<&'a str>);

impl<'a> Step<'a> {
    fn word(&self, at: usize) -> Option<&'a str> {
        self.0.iter().filter(|word| !word.contains('=')).nth(at).copied()
    }
    fn option(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }
    fn amount(&self, at: usize) -> Decimal {
        decimal(self.word(at).unwrap_or_else(|| panic!("{:?} has an amount at {at}", self.0)))
    }
    fn currency(&self, at: usize) -> Currency {
        Currency::from_code(self.word(at).unwrap_or("USD")).expect("a currency")
    }
    fn time(&self, key: &str, now: Timestamp) -> Option<Timestamp> {
        Some(Timestamp(now.0 + duration(self.option(key)?).expect("a duration")))
    }
}

fn money(step: &Step<'_>) -> MoveMoney {
    MoveMoney {
        amount: step.amount(1),
        currency: step.currency(2),
        description: "groceries".to_owned(),
        transaction_id: id("transaction"),
    }
}

fn transfer(step: &Step<'_>) -> MoveTransfer {
    MoveTransfer {
        transfer_id: id("transfer"),
        counterparty_id: id("somebody"),
        amount: step.amount(1),
        currency: step.currency(2),
        contra: ContraAccount::Clearing,
        description: "rent".to_owned(),
        transaction_id: id("transaction"),
    }
}

fn open(step: &Step<'_>) -> OpenAccount {
    let decimal = |key| step.option(key).map(decimal);
    OpenAccount {
        account_id: id("account"),
        account_type: match step.word(1) {
            Some("checking") => AccountType::Checking,
            Some("savings") => AccountType::Savings,
            Some("credit") => AccountType::Credit,
            other => panic!("'{other:?}' is a type of account"),
        },
        currency: step.currency(2),
        owner_id: id("owner"),
        initial_deposit: step.word(3).map(|_| step.amount(3)),
        overdraft_limit: decimal("overdraft"),
        credit_limit: decimal("credit"),
        daily_withdrawal_limit: decimal("daily"),
        transaction_id: id("transaction"),
    }
}

fn command(step: &Step<'_>, now: Timestamp) -> AccountCommand {
    let transaction_id = id("transaction");
    let text = |text: &str| text.to_owned();
    let hold_id = id(step.word(1).unwrap_or_default());
    match step.word(0).expect("a step begins with its command") {
        "open" => AccountCommand::Open(open(step)),
        "deposit" => AccountCommand::Deposit(money(step)),
        "withdraw" => AccountCommand::Withdraw(money(step)),
        "fee" => AccountCommand::ChargeFee(money(step)),
        "debit" => AccountCommand::DebitTransfer(transfer(step)),
        "credit" => AccountCommand::CreditTransfer(transfer(step)),
        "refund" => AccountCommand::RefundTransfer(RefundTransfer {
            transfer_id: id("transfer"),
            counterparty_id: id("somebody"),
            amount: step.amount(1),
            currency: step.currency(2),
            contra: ContraAccount::Clearing,
            description: text("rent"),
            reason: text("risk_check_failed"),
            debited_at: step.time("debited", now).unwrap_or(now),
            transaction_id,
        }),
        "hold" => AccountCommand::PlaceHold(PlaceHold {
            hold_id,
            amount: step.amount(2),
            currency: step.currency(3),
            description: text("hotel"),
            expires_at: step.time("expires", now),
            transaction_id,
        }),
        "capture" => AccountCommand::CaptureHold(CaptureHold {
            hold_id,
            amount: step.word(2).map(|_| step.amount(2)),
            description: text("hotel"),
            transaction_id,
        }),
        "release" => {
            AccountCommand::ReleaseHold(ReleaseHold { hold_id, reason: text(""), transaction_id })
        }
        "freeze" => AccountCommand::Freeze(FreezeAccount {
            reason: text("lost card"),
            frozen_by: text("support"),
            transaction_id,
        }),
        "unfreeze" => AccountCommand::Unfreeze(UnfreezeAccount {
            unfrozen_by: text("support"),
            transaction_id,
        }),
        "close" => AccountCommand::Close(CloseAccount {
            reason: text(""),
            closed_by: text("owner"),
            transaction_id,
        }),
        "limits" => AccountCommand::ChangeLimits(ChangeLimits {
            overdraft_limit: step.option("overdraft").map(decimal),
            daily_withdrawal_limit: step.option("daily").map(decimal),
            changed_by: text("support"),
            reason: text("asked for it"),
            transaction_id,
        }),
        "flag" => AccountCommand::Flag(FlagAccount {
            reason: text("suspicious"),
            flagged_by: text("support"),
            transaction_id,
        }),
        "unflag" => {
            AccountCommand::Unflag(UnflagAccount { unflagged_by: text("support"), transaction_id })
        }
        other => panic!("'{other}' is a command"),
    }
}

/// An account whose every step is also replayed from bytes, and entered into the books.
#[derive(Default)]
struct Live {
    account: Account,
    stored: Account,
    books: Books,
    last: Vec<&'static str>,
}

impl Live {
    fn execute(
        &mut self,
        command: &AccountCommand,
        now: Timestamp,
    ) -> Result<(), AccountRejection> {
        let events = self.account.decide(command, now)?;
        self.last = events.iter().map(AccountEvent::event_type).collect();
        for event in &events {
            self.account.evolve(event);
            let (event_type, data) = Account::encode(event);
            let view = stored(event_type, &data);
            let decoded = Account::decode(view).expect("what was encoded can be decoded");
            assert_eq!(&decoded, event, "{}", String::from_utf8_lossy(&data));
            self.stored.evolve(&decoded);
            self.books.apply(view).expect("small figures");
        }
        assert_eq!(self.stored, self.account, "a replay gives another state");
        let snapshot = self.account.to_snapshot();
        let restored = Account::from_snapshot(&snapshot).expect("a snapshot can be read");
        assert_eq!(restored, self.account, "a snapshot gives another state");
        assert_eq!(restored.to_snapshot(), snapshot, "digits were lost in a snapshot");
        assert!(self.books.is_balanced(), "{:?}", self.books);
        Ok(())
    }

    fn figure(&self, key: &str, now: Timestamp) -> String {
        let state = self.account.state().expect("the account is open");
        let customers = self.books.sums(state.currency).map(|sums| sums.customers);
        assert_eq!(customers.unwrap_or_default(), state.balance, "the books and the balance");
        match key {
            "balance" => state.balance.to_string(),
            "available" => state.available(now).to_string(),
            "held" => state.held(now).to_string(),
            "holds" => state.holds(now).count().to_string(),
            "withdrawn" => state.withdrawn_today(now).to_string(),
            "overdraft" => state.overdraft_limit.to_string(),
            "daily" => state.daily_withdrawal_limit.to_string(),
            "status" => state.status.as_str().to_owned(),
            "flagged" => if state.flag.is_some() { "yes" } else { "no" }.to_owned(),
            "hour" => state.transfers_this_hour(now).to_string(),
            "day" => state.transfers_today(now).to_string(),
            "events" => self.last.join(","),
            "updated" => match state.updated_at.0 - START {
                0 => "+0s".to_owned(),
                3_600_000_000_000 => "+1h".to_owned(),
                86_400_000_000_000 => "+1d".to_owned(),
                _ => time::Rfc3339(state.updated_at).to_string(),
            },
            _ => panic!("'{key}' is a figure"),
        }
    }
}

fn stored<'a>(event_type: &'a str, data: &'a [u8]) -> EventView<'a> {
    EventView {
        position: Position(1),
        revision: Revision(0),
        time: Timestamp(0),
        id: Uuid::nil(),
        stream: "ledger.account-1",
        event_type,
        content_type: ContentType::Json,
        tombstone: false,
        metadata: b"",
        data,
    }
}

/// What comes of a line's last step, as the line would say it.
fn outcome(steps: &str, expected: &str) -> String {
    let mut live = Live::default();
    let mut now = Timestamp(START);
    let mut steps = steps.split(';').map(str::trim).peekable();
    while let Some(text) = steps.next() {
        if let Some(duration) = duration(text) {
            now.0 += duration;
            continue;
        }
        if text == "look" {
            continue;
        }
        let step = Step(text.split_whitespace().collect());
        let result = live.execute(&command(&step, now), now);
        match (result, steps.peek()) {
            (Ok(()), _) => {}
            (Err(rejection), None) => return rejection.word().to_owned(),
            (Err(rejection), Some(_)) => return format!("{text}: {rejection}"),
        }
    }
    let keys =
        expected.split_whitespace().map(|pair| pair.split_once('=').map_or("balance", |p| p.0));
    let figures: Vec<String> = keys.map(|key| format!("{key}={}", live.figure(key, now))).collect();
    figures.join(" ")
}

#[test]
fn every_rule_of_the_table_holds() {
    let lines = RULES.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut wrong = Vec::new();
    for line in lines {
        let (steps, expected) = line.split_once("=>").expect("a line has an outcome");
        let found = outcome(steps, expected.trim());
        if found != expected.trim() {
            wrong.push(format!("{line}\n   but: {found}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// An account with this much in it, in US dollars.
fn opened(deposit: &str) -> Live {
    let mut live = Live::default();
    let step = format!("open checking USD {deposit}");
    let step = Step(step.split(' ').collect());
    live.execute(&command(&step, Timestamp(START)), Timestamp(START)).expect("a good opening");
    live
}

#[test]
fn texts_are_short_and_printable_and_say_something() {
    let long = |size: usize| "x".repeat(size);
    let wide = "é".repeat(500);
    let (description, name) = (["deposit", "withdraw", "fee", "debit", "hold"], "name");
    let cases = [
        ("description", String::new(), None),
        ("description", long(1_000), None),
        ("description", long(1_001), Some("text_too_long")),
        ("description", wide.clone(), None),
        ("description", wide + "x", Some("text_too_long")),
        ("description", "a\nb".to_owned(), Some("text_not_printable")),
        ("description", "a\u{85}b".to_owned(), Some("text_not_printable")),
        ("description", long(1_000_000), Some("text_too_long")),
        (name, String::new(), Some("text_missing")),
        (name, "  ".to_owned(), Some("text_missing")),
        (name, long(200), None),
        (name, long(201), Some("text_too_long")),
        (name, "a\0b".to_owned(), Some("text_not_printable")),
    ];
    for (field, text, expected) in cases {
        let mut commands = Vec::new();
        let transaction_id = id("transaction");
        if field == "description" {
            for word in description {
                let step = format!("{word} h 1");
                let step = if word == "hold" { step } else { format!("{word} 1") };
                let step = Step(step.split(' ').collect());
                let mut command = command(&step, Timestamp(START));
                match &mut command {
                    AccountCommand::Deposit(c)
                    | AccountCommand::Withdraw(c)
                    | AccountCommand::ChargeFee(c) => c.description = text.clone(),
                    AccountCommand::DebitTransfer(c) => c.description = text.clone(),
                    AccountCommand::PlaceHold(c) => c.description = text.clone(),
                    other => panic!("{other:?} has no description"),
                }
                commands.push((command, "description"));
            }
        } else {
            let (text, good) = (text.clone(), "x".to_owned());
            commands.extend([
                (
                    AccountCommand::Freeze(FreezeAccount {
                        reason: good.clone(),
                        frozen_by: text.clone(),
                        transaction_id,
                    }),
                    "frozen_by",
                ),
                (
                    AccountCommand::Freeze(FreezeAccount {
                        reason: text.clone(),
                        frozen_by: good.clone(),
                        transaction_id,
                    }),
                    "reason",
                ),
                (
                    AccountCommand::Flag(FlagAccount {
                        reason: good,
                        flagged_by: text,
                        transaction_id,
                    }),
                    "flagged_by",
                ),
            ]);
        }
        for (command, field) in commands {
            let found = opened("10").execute(&command, Timestamp(START)).err();
            let found = found.map(|rejection| (rejection.word(), rejection.field()));
            let shown = text.escape_debug().take(20).collect::<String>();
            assert_eq!(found, expected.map(|word| (word, Some(field))), "{field} {shown:?}");
        }
    }
}

#[test]
fn no_formality_keeps_a_refund_or_a_credit_from_arriving() {
    let long = "x\n".repeat(2_000);
    let mut live = opened("10");
    let step = |text: &'static str| Step(text.split(' ').collect());
    for text in ["credit 1", "refund 1"] {
        let mut command = command(&step(text), Timestamp(START));
        match &mut command {
            AccountCommand::CreditTransfer(c) => c.description = long.clone(),
            AccountCommand::RefundTransfer(c) => {
                (c.description, c.reason) = (long.clone(), long.clone());
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(live.execute(&command, Timestamp(START)), Ok(()), "{text}");
    }
}

#[test]
fn a_balance_and_the_number_of_holds_are_bounded() {
    let mut live = opened("1000000000000000");
    let run = |live: &mut Live, text: &str| {
        let step = Step(text.split(' ').collect());
        live.execute(&command(&step, Timestamp(START)), Timestamp(START)).map_err(|r| r.word())
    };
    for _ in 1..1_000 {
        run(&mut live, "deposit 1000000000000000").expect("below the largest balance");
    }
    assert_eq!(live.figure("balance", Timestamp(START)), "1000000000000000000.00");
    for text in ["deposit 0.01", "credit 0.01", "refund 0.01"] {
        assert_eq!(run(&mut live, text), Err("balance_limit_exceeded"), "{text}");
    }
    run(&mut live, "withdraw 0.01").expect("it is there");
    run(&mut live, "deposit 0.01").expect("there is room");

    let mut account = opened("1000").account;
    let place = |account: &Account, n: u32| {
        let step = format!("hold {n} 0.01");
        account
            .decide(&command(&Step(step.split(' ').collect()), Timestamp(START)), Timestamp(START))
    };
    for n in 0..1_000 {
        for event in place(&account, n).expect("below the limit") {
            account.evolve(&event);
        }
    }
    assert_eq!(place(&account, 1_000).map_err(|r| r.word()), Err("too_many_holds"));
    assert!(account.to_snapshot().len() < 300 * 1024, "{}", account.to_snapshot().len());
}

#[test]
fn rejections_name_the_figures() {
    let live = opened("100");
    let cases = [
        ("withdraw 600.01", "600.01 USD are more than the 600.00 available: balance 100.00"),
        ("withdraw 1 EUR", "the account is in USD, the amount in EUR"),
        ("deposit 0.001", "amount: USD has 2 digits after the point, '0.001' has more"),
        ("hold a 1 expires=-1s", "2026-03-01T23:59:59.000000000Z is not after"),
        ("limits overdraft=0.001", "overdraft_limit: USD has 2 digits"),
        ("close", "the balance is 100.00 USD"),
        ("capture a", "no hold "),
    ];
    for (text, expected) in cases {
        let step = Step(text.split(' ').collect());
        let command = command(&step, Timestamp(START));
        let rejection = live.account.decide(&command, Timestamp(START)).expect_err(text);
        assert!(rejection.to_string().contains(expected), "{text}: {rejection}");
    }
}
