//! A small projection: counts and sums by account, and what each owner has.

use std::sync::atomic::{AtomicBool, Ordering};

use daybook_model::EventView;
use daybook_projections::{
    ApplyError, Changes, Column, Index, Interest, Kind, OnPoison, Projection, Table, Value,
};
use rust_decimal::Decimal;

pub const NAME: &str = "tally";

pub const ACCOUNTS: &Table = &TABLES[0];
pub const OWNERS: &Table = &TABLES[1];

pub const TABLES: &[Table] = &[
    Table {
        name: "accounts",
        columns: &[
            Column { name: "account", kind: Kind::Text },
            Column { name: "owner", kind: Kind::Text },
            Column { name: "count", kind: Kind::Integer },
            Column { name: "sum", kind: Kind::Decimal },
        ],
        key_len: 1,
        indexes: &[Index { name: "by_owner", columns: &[1] }],
    },
    Table {
        name: "owners",
        columns: &[
            Column { name: "owner", kind: Kind::Text },
            Column { name: "sum", kind: Kind::Decimal },
        ],
        key_len: 1,
        indexes: &[],
    },
];

/// Takes `Moved` events: `account owner amount`. An account whose amount is 0 is removed. `Bad` is
/// poison, `Worse` a panic, both after changes that must be undone.
pub struct Tally {
    pub version: u32,
    pub on_poison: OnPoison,
    /// Whether bad events are taken in after all.
    pub mended: AtomicBool,
}

impl Tally {
    pub fn new() -> Tally {
        Tally { version: 1, on_poison: OnPoison::Stop, mended: AtomicBool::new(false) }
    }
}

impl Projection for Tally {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn tables(&self) -> &'static [Table] {
        TABLES
    }

    fn interest(&self) -> Interest {
        let types = ["Moved", "Bad", "Worse"].map(str::to_owned).to_vec();
        Interest { streams: vec!["account-".to_owned()], types }
    }

    fn apply(&self, event: EventView<'_>, changes: &mut Changes<'_>) -> Result<(), ApplyError> {
        let text = std::str::from_utf8(event.data).unwrap_or_default();
        let fields: Vec<&str> = text.split(' ').collect();
        let [account, owner, amount] = fields[..] else {
            return Err(ApplyError::Poison { reason: format!("no three fields: {text}") });
        };
        let amount: Decimal = amount.parse().unwrap_or_default();
        let of_owner = [Value::from(owner)];
        let total = sum_of(changes.get(OWNERS, &of_owner)?.map(|row| &row[1])) + amount;
        changes.put(OWNERS, vec![owner.into(), total.into()])?;
        let key = [Value::from(account)];
        if amount.is_zero() {
            changes.delete(ACCOUNTS, &key)?;
        } else {
            let (count, sum) = match changes.get(ACCOUNTS, &key)? {
                Some(row) => (integer(&row[2]), sum_of(Some(&row[3]))),
                None => (0, Decimal::ZERO),
            };
            let row = vec![account.into(), owner.into(), (count + 1).into(), (sum + amount).into()];
            changes.put(ACCOUNTS, row)?;
        }
        if !self.mended.load(Ordering::SeqCst) {
            match event.event_type {
                "Bad" => return Err(ApplyError::Poison { reason: "it is bad".to_owned() }),
                "Worse" => panic!("it is worse"),
                _ => {}
            }
        }
        Ok(())
    }

    fn on_poison(&self) -> OnPoison {
        self.on_poison
    }
}

fn integer(value: &Value) -> i64 {
    match value {
        Value::Integer(number) => *number,
        other => panic!("no integer: {other:?}"),
    }
}

fn sum_of(value: Option<&Value>) -> Decimal {
    match value {
        None => Decimal::ZERO,
        Some(Value::Decimal(number)) => *number,
        Some(other) => panic!("no decimal: {other:?}"),
    }
}

/// A move of `amount` on one of `accounts` accounts, for the number of an event.
pub fn moved(number: u64, accounts: u64) -> String {
    let account = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
    let account = account % accounts;
    let amount = i64::try_from(number % 7).unwrap();
    format!("a{account} owner{} {amount}.{:02}", account % 13, number % 100)
}
