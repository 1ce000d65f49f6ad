//! The limits and fixed sums of accounts, with their units and reasons.

/// Bytes of a description: some lines of remarks on a statement, and a bound for every event that
/// carries one.
pub const DESCRIPTION_SIZE_MAX: usize = 1_000;
/// Bytes of a reason or of the name of who did something: a line.
pub const REASON_SIZE_MAX: usize = 200;
/// Holds that one account may have open. They are part of its state, which is copied and kept in
/// snapshots: this bounds it at about 200 KiB.
pub const HOLDS_OPEN_MAX: usize = 1_000;
/// What a savings account must be opened with, in major units of its currency.
pub const SAVINGS_DEPOSIT_MIN: u32 = 100;
/// How far a checking account may be overdrawn if nothing else is said, in major units.
pub const CHECKING_OVERDRAFT: u32 = 500;
/// How much may leave an account on one UTC day if nothing else is said, in major units.
pub const DAILY_WITHDRAWAL: u32 = 5_000;
