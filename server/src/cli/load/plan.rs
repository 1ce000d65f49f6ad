//! Who the users of a run are and what they do: all of it from the run's number and the users'
//! indices, so that what is found in the log afterwards can be told from other traffic and
//! compared with what was done.
//!
//! ```text
//!   account 0 .. users             one user each         USD, every tenth EUR, every tenth JPY
//!   account users .. + MERCHANTS   nobody's, only paid   hot: one transfer in twenty
//!   an id   | run, 48 bits | kind | account, 24 bits | number, 32 bits |   a UUID of version 8
//! ```
//!
//! INVARIANT: pure; chance comes from [`Random`], whose seed is an argument.

use uuid::Uuid;

/// Users of one run: an account's index has 24 bits in an id.
pub const USERS_MAX: u32 = 1_000_000;
/// Accounts that nobody owns and many pay.
pub const MERCHANTS: u32 = 5;
/// One transfer in so many goes to a merchant.
const MERCHANT_EVERY: u64 = 20;
/// One user in so many is flagged as risky.
const RISKY_EVERY: u32 = 100;
/// Which of them: low, so that a small run has one too.
const RISKY_FIRST: u32 = 7;
/// One user in so many also reads.
const READER_EVERY: u32 = 10;
/// Which of them.
const READER_FIRST: u32 = 3;
/// The largest transfer, in minor units. Small beside what is deposited: users must not run dry.
const AMOUNT_MAX: u64 = 2_000;
/// How often a receiver is drawn before a merchant is taken: small runs have few users of a kind.
const DRAWS_MAX: u32 = 64;

const _: () = assert!(USERS_MAX + MERCHANTS < 1 << 24);

/// A currency of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Currency {
    /// US dollar.
    Usd,
    /// Euro.
    Eur,
    /// Yen, which has no minor unit.
    Jpy,
}

impl Currency {
    /// Its ISO 4217 code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Currency::Usd => "USD",
            Currency::Eur => "EUR",
            Currency::Jpy => "JPY",
        }
    }

    /// Digits after the point.
    #[must_use]
    pub fn digits(self) -> u32 {
        match self {
            Currency::Usd | Currency::Eur => 2,
            Currency::Jpy => 0,
        }
    }
}

/// What an id names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An account.
    Account,
    /// A transfer.
    Transfer,
    /// Any other command.
    Command,
}

/// An id of this run, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// What it names.
    pub kind: Kind,
    /// Whose it is.
    pub account: u32,
    /// Which of theirs.
    pub number: u32,
}

/// A run: its number and how many users it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    run: [u8; 6],
    users: u32,
}

impl Plan {
    /// The plan of a run of `users` users, at most [`USERS_MAX`]; `chance` tells it from others.
    #[must_use]
    pub fn new(chance: [u8; 16], users: u32) -> Plan {
        let [a, b, c, d, e, f, ..] = chance;
        Plan { run: [a, b, c, d, e, f], users: users.min(USERS_MAX) }
    }

    /// Users.
    #[must_use]
    pub fn users(&self) -> u32 {
        self.users
    }

    /// All accounts, the users' first.
    #[must_use]
    pub fn accounts(&self) -> u32 {
        self.users + MERCHANTS
    }

    /// The id of an account.
    #[must_use]
    pub fn account_id(&self, account: u32) -> Uuid {
        self.id(Kind::Account, account, 0)
    }

    /// An id of a kind.
    #[must_use]
    pub fn id(&self, kind: Kind, account: u32, number: u32) -> Uuid {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&self.run);
        bytes[7] = kind as u8;
        // The byte between holds the UUID's variant.
        bytes[8..12].copy_from_slice(&account.to_be_bytes());
        bytes[12..].copy_from_slice(&number.to_be_bytes());
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }

    /// What an id names; nothing if it is not of this run.
    #[must_use]
    pub fn named(&self, id: Uuid) -> Option<Named> {
        let bytes = id.as_bytes();
        let kind = match bytes[7] {
            0 => Kind::Account,
            1 => Kind::Transfer,
            2 => Kind::Command,
            _ => return None,
        };
        let account = u32::from_be_bytes([0, bytes[9], bytes[10], bytes[11]]);
        let number = u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
        (self.id(kind, account, number) == id && account < self.accounts()).then_some(Named {
            kind,
            account,
            number,
        })
    }

    /// The currency of an account.
    #[must_use]
    pub fn currency(&self, account: u32) -> Currency {
        match account.checked_sub(self.users) {
            Some(3) => Currency::Eur,
            Some(4) => Currency::Jpy,
            Some(_) => Currency::Usd,
            None if account % 10 == 8 => Currency::Eur,
            None if account % 10 == 9 => Currency::Jpy,
            None => Currency::Usd,
        }
    }

    /// Whether the account is a merchant's.
    #[must_use]
    pub fn is_merchant(&self, account: u32) -> bool {
        account >= self.users
    }

    /// Whether the user is flagged: no transfer of theirs, and none to them, may be completed.
    #[must_use]
    pub fn is_risky(&self, account: u32) -> bool {
        !self.is_merchant(account) && account % RISKY_EVERY == RISKY_FIRST
    }

    /// Whether the user also reads.
    #[must_use]
    pub fn is_reader(&self, account: u32) -> bool {
        !self.is_merchant(account) && account % READER_EVERY == READER_FIRST
    }

    /// Whom `sender` pays next: an account of the same currency, not their own.
    #[must_use]
    pub fn receiver(&self, sender: u32, random: &mut Random) -> u32 {
        let currency = self.currency(sender);
        if random.below(MERCHANT_EVERY) != 0 {
            for _ in 0..DRAWS_MAX {
                let drawn = random.below_u32(self.users);
                if drawn != sender && self.currency(drawn) == currency {
                    return drawn;
                }
            }
        }
        self.users
            + match currency {
                Currency::Usd => random.below_u32(3),
                Currency::Eur => 3,
                Currency::Jpy => 4,
            }
    }

    /// How much is paid, in minor units.
    #[must_use]
    pub fn amount(random: &mut Random) -> u32 {
        u32::try_from(1 + random.below(AMOUNT_MAX)).expect("AMOUNT_MAX is small")
    }
}

/// A cheap generator of chance: splitmix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator; the same seed gives the same numbers.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The bias is at most bound / 2^64.
        self.next().checked_rem(bound).unwrap_or(0)
    }

    fn below_u32(&mut self, bound: u32) -> u32 {
        u32::try_from(self.below(u64::from(bound))).expect("below a u32")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_what_it_names_and_whose_run_it_is() {
        let plan = Plan::new([7; 16], 1000);
        for kind in [Kind::Account, Kind::Transfer, Kind::Command] {
            for (account, number) in [(0, 0), (1, u32::MAX), (999, 7), (1004, 1)] {
                let id = plan.id(kind, account, number);
                assert_eq!(plan.named(id), Some(Named { kind, account, number }), "{id}");
                assert_eq!(Plan::new([8; 16], 1000).named(id), None, "{id}");
            }
        }
        assert_eq!(plan.named(plan.id(Kind::Transfer, 1005, 0)), None, "nobody's");
        assert_eq!(plan.named(Uuid::nil()), None);
        assert_eq!(plan.account_id(3).get_version_num(), 8);
    }

    #[test]
    fn receivers_share_the_senders_currency_and_are_somebody_else() {
        for users in [1, 2, 20, 1000] {
            let plan = Plan::new([1; 16], users);
            let mut random = Random::new(1);
            let mut merchants = 0;
            for turn in 0..20_000 {
                let sender = turn % users;
                let receiver = plan.receiver(sender, &mut random);
                assert_ne!(sender, receiver);
                assert!(receiver < plan.accounts());
                assert_eq!(plan.currency(sender), plan.currency(receiver));
                merchants += u32::from(plan.is_merchant(receiver));
            }
            let expected = if users < 1000 { 800..20_001 } else { 800..1200 };
            assert!(expected.contains(&merchants), "{users} users: {merchants}");
        }
    }

    #[test]
    fn a_small_run_has_every_kind_of_user() {
        let plan = Plan::new([1; 16], 20);
        let users = 0..plan.users();
        assert_eq!(users.clone().filter(|user| plan.is_risky(*user)).count(), 1);
        assert_eq!(users.clone().filter(|user| plan.is_reader(*user)).count(), 2);
        assert!(users.clone().any(|user| plan.currency(user) == Currency::Jpy));
    }
}
