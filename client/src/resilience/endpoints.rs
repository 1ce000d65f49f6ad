//! A breaker for each endpoint, made when it is first asked for.
//!
//! INVARIANT: at most `endpoints_max` of them, so that names that come from outside can fill
//! neither the memory nor the metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::breaker::{CircuitBreaker, Status};
use super::settings::{BreakerSettings, InvalidSettings};
use super::wiring::Wiring;

/// Endpoints of one registry unless it is told otherwise: a service talks to tens.
pub const ENDPOINTS_MAX_DEFAULT: usize = 1_000;

/// There are too many endpoints.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "endpoint '{endpoint}' would be one more than {max}; name endpoints by service, not by \
     request, or raise the limit"
)]
pub struct TooManyEndpoints {
    /// Who was asked for.
    pub endpoint: String,
    /// How many there are.
    pub max: usize,
}

/// The breakers of a program. A clone is another handle to the same.
#[derive(Clone, Debug)]
pub struct Breakers {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    wiring: Wiring,
    default: BreakerSettings,
    overrides: BTreeMap<String, BreakerSettings>,
    endpoints_max: usize,
    breakers: Mutex<BTreeMap<String, CircuitBreaker>>,
}

impl Breakers {
    /// None yet: those of `overrides` will have their settings, all others `default`.
    ///
    /// # Errors
    /// [`InvalidSettings`]: some make no sense.
    pub fn new(
        default: BreakerSettings,
        overrides: impl IntoIterator<Item = (String, BreakerSettings)>,
        wiring: Wiring,
    ) -> Result<Breakers, InvalidSettings> {
        Breakers::with_endpoints_max(default, overrides, wiring, ENDPOINTS_MAX_DEFAULT)
    }

    /// As [`Breakers::new`], with another limit.
    ///
    /// # Errors
    /// As there.
    pub fn with_endpoints_max(
        default: BreakerSettings,
        overrides: impl IntoIterator<Item = (String, BreakerSettings)>,
        wiring: Wiring,
        endpoints_max: usize,
    ) -> Result<Breakers, InvalidSettings> {
        let overrides: BTreeMap<String, BreakerSettings> = overrides.into_iter().collect();
        default.check()?;
        overrides.values().try_for_each(BreakerSettings::check)?;
        let breakers = Mutex::default();
        let inner = Inner { wiring, default, overrides, endpoints_max, breakers };
        Ok(Breakers { inner: Arc::new(inner) })
    }

    /// The breaker before `endpoint`. To be kept: looking it up costs more than using it.
    ///
    /// # Errors
    /// [`TooManyEndpoints`]
    pub fn get(&self, endpoint: &str) -> Result<CircuitBreaker, TooManyEndpoints> {
        let Inner { wiring, default, overrides, endpoints_max, breakers } = &*self.inner;
        let mut breakers = breakers.lock();
        if let Some(breaker) = breakers.get(endpoint) {
            return Ok(breaker.clone());
        }
        if breakers.len() >= *endpoints_max {
            let endpoint = endpoint.to_owned();
            return Err(TooManyEndpoints { endpoint, max: *endpoints_max });
        }
        let settings = overrides.get(endpoint).unwrap_or(default).clone();
        let breaker = CircuitBreaker::new(endpoint, settings, wiring.clone())
            .expect("all settings were checked when the registry was made");
        breakers.insert(endpoint.to_owned(), breaker.clone());
        Ok(breaker)
    }

    /// Where each of them stands, by endpoint.
    #[must_use]
    pub fn status(&self) -> Vec<(String, Status)> {
        let breakers = self.inner.breakers.lock();
        breakers.iter().map(|(endpoint, breaker)| (endpoint.clone(), breaker.status())).collect()
    }

    /// What they are connected to; its `changes` tells the changes of all of them.
    #[must_use]
    pub fn wiring(&self) -> &Wiring {
        &self.inner.wiring
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::{State, Verdict};
    use super::super::testing::Manual;
    use super::*;

    #[test]
    fn each_endpoint_has_its_own_state_and_settings_and_there_is_a_limit() {
        let wiring = Manual::new().wiring();
        let trips_at = |failures| BreakerSettings {
            failures_in_a_row: Some(failures),
            ..BreakerSettings::default()
        };
        let overrides = [("frail".to_owned(), trips_at(1))];
        let breakers = Breakers::with_endpoints_max(trips_at(3), overrides, wiring, 2);
        let breakers = breakers.expect("valid");
        let mut changes = breakers.wiring().changes.subscribe();
        for endpoint in ["frail", "sturdy", "frail"] {
            let breaker = breakers.get(endpoint).expect("room");
            if let Ok(permit) = breaker.admit() {
                permit.finish(Verdict::Failure);
            }
        }
        let states: Vec<_> = breakers.status().into_iter().map(|(e, s)| (e, s.state)).collect();
        let expected = [("frail".to_owned(), State::Open), ("sturdy".to_owned(), State::Closed)];
        assert_eq!(states, expected);
        assert!(changes.try_next().is_some() && changes.try_next().is_none());
        let refused = breakers.get("third").expect_err("two are enough");
        assert_eq!((refused.endpoint.as_str(), refused.max), ("third", 2));
        let invalid = Breakers::new(trips_at(1), [("x".to_owned(), trips_at(0))], Wiring::system());
        assert_eq!(invalid.expect_err("0 failures").name, "failures_in_a_row");
    }
}
