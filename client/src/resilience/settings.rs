//! What trips a circuit breaker, and how it comes back: one endpoint's numbers.
//!
//! INVARIANT: [`BreakerSettings::check`] passes before a breaker is made of them.

use std::time::Duration;

/// Calls that a window of calls can hold, a byte each: more would only make it slow to notice.
pub const WINDOW_CALLS_MAX: u32 = 10_000;
/// Parts of a window of time, 24 bytes each.
pub const WINDOW_PARTS_MAX: u32 = 1_000;
/// Probes at a time: beyond this it is no probe but load.
pub const PROBES_MAX: u32 = 1_000;
/// The part of the open time, in percent, that chance may take off. More would make the growth of
/// open times meaningless.
pub const JITTER_PERCENT_MAX: u32 = 50;

/// When one endpoint's calls are let through.
///
/// The defaults trip on 5 failures in a row, on half of at least 20 calls a minute failing, or on
/// four fifths of them being slow; they stay open for 5 s at first and 5 minutes at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Trips at so many failures in a row, however few calls there are.
    pub failures_in_a_row: Option<u32>,
    /// Trips when at least so many percent of the window's calls failed.
    pub failure_percent: Option<u32>,
    /// Trips when at least so many percent of the window's calls were slow.
    pub slow_percent: Option<u32>,
    /// A call is slow if it takes this long or longer, however it ends.
    pub slow_after: Duration,
    /// The calls that the percentages are of.
    pub window: Window,
    /// Percentages mean nothing before the window has so many calls.
    pub calls_min: u32,
    /// Calls let through at a time while it is half-open.
    pub probes_max: u32,
    /// Probes that must succeed before it closes; the first that fails opens it again.
    pub successes_to_close: u32,
    /// If all probes are out and the last was let through so long ago, they count as failed.
    pub probe_silence_max: Duration,
    /// How long it stays open the first time.
    pub open_first: Duration,
    /// Each further time it stays open so many times as long …
    pub open_factor: u32,
    /// … but never longer than this.
    pub open_max: Duration,
    /// Chance takes up to so many percent off each open time, so that many callers of one endpoint
    /// do not come back in the same moment.
    pub jitter_percent: u32,
    /// After being closed for so long it is healthy: the next trip is a first one.
    pub healthy_after: Duration,
}

/// Which calls are looked back at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The last so many.
    Calls(u32),
    /// Those of the last `length`, which moves on in `parts` steps.
    Time {
        /// How far it looks back; the oldest part goes as a whole.
        length: Duration,
        /// Into how many parts it is divided.
        parts: u32,
    },
}

impl Default for BreakerSettings {
    fn default() -> BreakerSettings {
        BreakerSettings {
            failures_in_a_row: Some(5),
            failure_percent: Some(50),
            slow_percent: Some(80),
            slow_after: Duration::from_secs(2),
            window: Window::Time { length: Duration::from_secs(60), parts: 12 },
            calls_min: 20,
            probes_max: 3,
            successes_to_close: 2,
            probe_silence_max: Duration::from_secs(30),
            open_first: Duration::from_secs(5),
            open_factor: 2,
            open_max: Duration::from_secs(300),
            jitter_percent: 20,
            healthy_after: Duration::from_secs(60),
        }
    }
}

/// Why nothing can be made of some settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {of}'s {name} is {found}; {rule}")]
pub struct InvalidSettings {
    /// What was to be made.
    pub of: &'static str,
    /// The setting.
    pub name: &'static str,
    /// Its value.
    pub found: String,
    /// What it must be.
    pub rule: &'static str,
}

impl BreakerSettings {
    /// Whether they make sense.
    ///
    /// # Errors
    /// [`InvalidSettings`] names the first that does not.
    pub fn check(&self) -> Result<(), InvalidSettings> {
        let number = |name, found: Option<u32>, max: u32, rule| match found {
            Some(found) if found == 0 || found > max => Err(invalid(name, found, rule)),
            _ => Ok(()),
        };
        let percent = "give 1 to 100, or none";
        number("failures_in_a_row", self.failures_in_a_row, u32::MAX, "give at least 1, or none")?;
        number("failure_percent", self.failure_percent, 100, percent)?;
        number("slow_percent", self.slow_percent, 100, percent)?;
        number("calls_min", Some(self.calls_min), WINDOW_CALLS_MAX, "give 1 to 10000")?;
        number("probes_max", Some(self.probes_max), PROBES_MAX, "give 1 to 1000")?;
        let successes = Some(self.successes_to_close);
        number("successes_to_close", successes, u32::MAX, "give at least 1")?;
        number("open_factor", Some(self.open_factor), 1_000, "give 1 to 1000")?;
        if self.jitter_percent > JITTER_PERCENT_MAX {
            return Err(invalid("jitter_percent", self.jitter_percent, "give at most 50"));
        }
        self.check_times()?;
        self.check_window()
    }

    fn check_times(&self) -> Result<(), InvalidSettings> {
        for (name, found) in [
            ("slow_after", self.slow_after),
            ("open_first", self.open_first),
            ("probe_silence_max", self.probe_silence_max),
        ] {
            if found.is_zero() {
                return Err(invalid(name, "0", "give some time"));
            }
        }
        if self.open_max < self.open_first {
            let found = format!("{:?}", self.open_max);
            return Err(invalid("open_max", found, "give at least open_first"));
        }
        Ok(())
    }

    fn check_window(&self) -> Result<(), InvalidSettings> {
        match self.window {
            Window::Calls(calls) if calls == 0 || calls > WINDOW_CALLS_MAX => {
                Err(invalid("window of calls", calls, "give 1 to 10000"))
            }
            Window::Calls(calls) if self.calls_min > calls => {
                let rule = "the window never has so many calls: give at most its size";
                Err(invalid("calls_min", self.calls_min, rule))
            }
            Window::Time { parts, .. } if parts == 0 || parts > WINDOW_PARTS_MAX => {
                Err(invalid("window's number of parts", parts, "give 1 to 1000"))
            }
            Window::Time { length, parts } if length / parts < Duration::from_millis(1) => {
                let rule = "each of its parts must have a millisecond";
                Err(invalid("window of time", format!("{length:?}"), rule))
            }
            _ => Ok(()),
        }
    }
}

fn invalid(name: &'static str, found: impl ToString, rule: &'static str) -> InvalidSettings {
    InvalidSettings { of: "circuit breaker", name, found: found.to_string(), rule }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_make_no_sense_are_named() {
        type Change = fn(&mut BreakerSettings);
        let cases: [(&str, Change); 17] = [
            ("", |_| {}),
            ("", |s| s.failures_in_a_row = None),
            ("failures_in_a_row", |s| s.failures_in_a_row = Some(0)),
            ("failure_percent", |s| s.failure_percent = Some(101)),
            ("slow_percent", |s| s.slow_percent = Some(0)),
            ("calls_min", |s| s.calls_min = 0),
            ("calls_min", |s| s.window = Window::Calls(19)),
            ("", |s| s.window = Window::Calls(20)),
            ("window of calls", |s| s.window = Window::Calls(10_001)),
            ("window's number of parts", |s| {
                s.window = Window::Time { length: Duration::from_secs(1), parts: 0 };
            }),
            ("window of time", |s| {
                s.window = Window::Time { length: Duration::from_millis(9), parts: 10 };
            }),
            ("probes_max", |s| s.probes_max = 0),
            ("successes_to_close", |s| s.successes_to_close = 0),
            ("slow_after", |s| s.slow_after = Duration::ZERO),
            ("open_max", |s| s.open_max = Duration::from_secs(4)),
            ("open_factor", |s| s.open_factor = 0),
            ("jitter_percent", |s| s.jitter_percent = 51),
        ];
        for (expected, change) in cases {
            let mut settings = BreakerSettings::default();
            change(&mut settings);
            let found = settings.check().err().map_or("", |error| error.name);
            assert_eq!(found, expected, "{settings:?}");
        }
    }
}
