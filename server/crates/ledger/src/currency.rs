//! Currencies: ISO 4217 codes that money can be counted in.
//!
//! The table is the `iso_currency` crate's. A code without minor units (XAU, XDR, XXX …) is a unit
//! of account, not money that anybody pays with, and is refused.

use std::fmt;
use std::sync::LazyLock;

use iso_currency::IntoEnumIterator;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// All currencies, sorted by code.
static TABLE: LazyLock<Vec<Currency>> = LazyLock::new(|| {
    let mut table: Vec<Currency> = iso_currency::Currency::iter()
        .filter_map(|entry| {
            let minor_units = u32::from(entry.exponent()?);
            Some(Currency { code: entry.code(), minor_units })
        })
        .collect();
    table.sort_unstable();
    table
});

/// A currency of ISO 4217. Ordered by its code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency {
    code: &'static str,
    minor_units: u32,
}

/// Why a text names no currency.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{}' is not a currency; give the three capital letters of an ISO 4217 code with minor units, \
     as USD", code.escape_debug()
)]
pub struct InvalidCurrency {
    /// The text, cut to what is worth showing.
    pub code: String,
}

impl Currency {
    /// The currency with this code: three capital letters.
    ///
    /// # Errors
    /// [`InvalidCurrency`] repeats the code.
    pub fn from_code(code: &str) -> Result<Currency, InvalidCurrency> {
        TABLE
            .binary_search_by_key(&code, |currency| currency.code)
            .map(|at| TABLE[at])
            .map_err(|_| InvalidCurrency { code: code.chars().take(8).collect() })
    }

    /// Its code: `USD`.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.code
    }

    /// How many digits its amounts have after the point: 2 for USD, 0 for JPY, 3 for KWD.
    #[must_use]
    pub fn minor_units(self) -> u32 {
        self.minor_units
    }

    /// All currencies, in the order of their codes.
    pub fn all() -> impl Iterator<Item = Currency> {
        TABLE.iter().copied()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code)
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code)
    }
}

impl std::str::FromStr for Currency {
    type Err = InvalidCurrency;
    fn from_str(code: &str) -> Result<Currency, InvalidCurrency> {
        Currency::from_code(code)
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code)
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Currency, D::Error> {
        struct Code;
        impl serde::de::Visitor<'_> for Code {
            type Value = Currency;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an ISO 4217 code")
            }
            fn visit_str<E: serde::de::Error>(self, code: &str) -> Result<Currency, E> {
                Currency::from_code(code).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_exact_and_have_minor_units() {
        let cases = [
            ("USD", Some(2)),
            ("JPY", Some(0)),
            ("KWD", Some(3)),
            ("CLF", Some(4)),
            ("usd", None),
            ("US", None),
            ("USDT", None),
            ("", None),
            (" USD", None),
            ("XAU", None),
            ("XXX", None),
            ("XTS", None),
            ("$$$", None),
        ];
        for (code, expected) in cases {
            let found = Currency::from_code(code).ok().map(Currency::minor_units);
            assert_eq!(found, expected, "{code:?}");
        }
    }

    #[test]
    fn every_currency_is_found_by_its_code_and_survives_json() {
        assert!(Currency::all().count() > 150, "the table is nearly empty");
        for currency in Currency::all() {
            assert!(currency.minor_units() <= 4, "{currency}");
            let json = serde_json::to_string(&currency).expect("a string");
            assert_eq!(serde_json::from_str::<Currency>(&json).ok(), Some(currency), "{json}");
        }
        assert!(serde_json::from_str::<Currency>("840").is_err());
    }
}
