//! W3C trace context: which trace a piece of work belongs to, and what it is a part of.
//!
//! ```text
//!   traceparent   00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
//!                 version  trace id, 16 bytes         span id, 8      flags
//!   tracestate    vendor=value,other=value            passed on as it is, or dropped as a whole
//! ```
//!
//! The rules are those of <https://www.w3.org/TR/trace-context/>: hex in lower case, no id of
//! zeros, a newer version is read as far as this one goes, and a `tracestate` that breaks a rule is
//! dropped without harm to its `traceparent`.
//!
//! INVARIANT: nothing here is ambient. A trace is a value that is handed on, or there is none.

use std::fmt;

use crate::Entropy;

/// The header, and the key in an event's metadata, that says trace and span.
pub const TRACEPARENT: &str = "traceparent";
/// The header, and the key in an event's metadata, of what vendors add.
pub const TRACESTATE: &str = "tracestate";

/// Characters of a `traceparent` of version 00.
const TRACEPARENT_LEN: usize = 55;
/// Characters of a `tracestate`: so many must be passed on; more are dropped, as a whole.
const TRACESTATE_SIZE_MAX: usize = 512;
/// Members of a `tracestate`; the specification's limit.
const TRACESTATE_MEMBERS_MAX: usize = 32;
/// Characters of a member's key, and of its value; the specification's limit.
const MEMBER_SIZE_MAX: usize = 256;
/// Someone upstream records this trace.
const SAMPLED: u8 = 0b01;
/// The trace id was made at random.
const RANDOM: u8 = 0b10;

/// A place in a trace: the span under which what follows is done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace: [u8; 16],
    span: [u8; 8],
    flags: u8,
    /// Well-formed, or empty.
    state: String,
}

/// A `traceparent` that is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no traceparent: {reason}; it looks like 00-<32 hex>-<16 hex>-01")]
pub struct InvalidTraceparent {
    /// What was given, cut to the length of one.
    pub text: String,
    /// The rule that it breaks.
    pub reason: &'static str,
}

impl TraceContext {
    /// The first span of a new trace, which wants to be recorded.
    #[must_use]
    pub fn begin(entropy: &dyn Entropy) -> TraceContext {
        let trace = loop {
            let bytes = entropy.bytes();
            if bytes != [0; 16] {
                break bytes;
            }
        };
        let (span, flags) = (span(entropy), SAMPLED | RANDOM);
        TraceContext { trace, span, flags, state: String::new() }
    }

    /// Another span of the same trace, for work that this one's brings about.
    #[must_use]
    pub fn child(&self, entropy: &dyn Entropy) -> TraceContext {
        TraceContext { span: span(entropy), ..self.clone() }
    }

    /// The span `span` of the same trace.
    #[must_use]
    pub fn at(&self, span: [u8; 8]) -> TraceContext {
        TraceContext { span, ..self.clone() }
    }

    /// The same place, in a trace that nobody upstream of what follows records.
    #[must_use]
    pub fn unsampled(self) -> TraceContext {
        TraceContext { flags: self.flags & !SAMPLED, ..self }
    }

    /// Reads both headers. A `tracestate` that breaks a rule counts as none.
    ///
    /// # Errors
    /// [`InvalidTraceparent`] says which rule the first one breaks.
    pub fn parse(
        traceparent: &str,
        tracestate: Option<&str>,
    ) -> Result<TraceContext, InvalidTraceparent> {
        let invalid = |reason| InvalidTraceparent {
            text: traceparent.chars().take(TRACEPARENT_LEN).collect(),
            reason,
        };
        let bytes = traceparent.as_bytes();
        let (known, more) =
            bytes.split_at_checked(TRACEPARENT_LEN).ok_or(invalid("it is too short"))?;
        if [2, 35, 52].iter().any(|at| known[*at] != b'-') {
            return Err(invalid("its parts are not where they should be"));
        }
        let [version]: [u8; 1] = hex(&known[..2]).ok_or(invalid("its version is not hex"))?;
        match (version, more.first()) {
            (0xff, _) => return Err(invalid("version ff is forbidden")),
            (0, Some(_)) => return Err(invalid("it is too long for version 00")),
            (_, None | Some(b'-')) => {}
            _ => return Err(invalid("what follows its flags does not begin with '-'")),
        }
        let trace = hex(&known[3..35]).ok_or(invalid("its trace id is not lower-case hex"))?;
        let span = hex(&known[36..52]).ok_or(invalid("its span id is not lower-case hex"))?;
        let [flags]: [u8; 1] = hex(&known[53..]).ok_or(invalid("its flags are not hex"))?;
        if trace == [0; 16] || span == [0; 8] {
            return Err(invalid("an id of zeros means none"));
        }
        let state = tracestate.filter(|state| is_tracestate(state)).unwrap_or_default().to_owned();
        Ok(TraceContext { trace, span, flags: flags & (SAMPLED | RANDOM), state })
    }

    /// The id that all spans of the trace share.
    #[must_use]
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace
    }

    /// The id of this span.
    #[must_use]
    pub fn span_id(&self) -> [u8; 8] {
        self.span
    }

    /// Whether someone upstream records the trace.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// What vendors added, if anything.
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        Some(self.state.as_str()).filter(|state| !state.is_empty())
    }
}

/// The `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (u128::from_be_bytes(self.trace), u64::from_be_bytes(self.span));
        write!(f, "00-{trace:032x}-{span:016x}-{:02x}", self.flags)
    }
}

fn span(entropy: &dyn Entropy) -> [u8; 8] {
    loop {
        // Of a random UUID six bits are fixed, and only two of them in its second half.
        if let Some(span) = entropy.bytes().last_chunk::<8>().filter(|span| **span != [0; 8]) {
            return *span;
        }
    }
}

/// Exactly `N` bytes from lower-case hex.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    let (pairs, rest) = text.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

fn is_tracestate(state: &str) -> bool {
    if state.len() > TRACESTATE_SIZE_MAX {
        return false;
    }
    let mut keys = std::collections::BTreeSet::new();
    let members = state.split(',').map(|member| member.trim_matches([' ', '\t']));
    for member in members.filter(|member| !member.is_empty()) {
        let Some((key, value)) = member.split_once('=') else { return false };
        if !is_key(key) || !is_value(value) || !keys.insert(key) {
            return false;
        }
    }
    (1..=TRACESTATE_MEMBERS_MAX).contains(&keys.len())
}

fn is_key(key: &str) -> bool {
    let allowed = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
    let first = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    key.len() <= MEMBER_SIZE_MAX
        && key.as_bytes().first().is_some_and(first)
        && key.bytes().all(allowed)
}

fn is_value(value: &str) -> bool {
    let allowed = |c: u8| matches!(c, b' '..=b'~') && c != b'=';
    (1..=MEMBER_SIZE_MAX).contains(&value.len()) && value.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemEntropy;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_read_is_written_again() {
        for text in [GOOD, "00-00000000000000000000000000000001-0000000000000001-00"] {
            assert_eq!(TraceContext::parse(text, None).expect("valid").to_string(), text);
        }
        // A newer version is read as far as it is known, and unknown flags are not passed on.
        let newer = GOOD.replacen("00", "cc", 1).replace("-01", "-ff-more");
        let read = TraceContext::parse(&newer, None).expect("readable");
        assert_eq!(read.to_string(), GOOD.replace("-01", "-03"));
        assert!(read.is_sampled());
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        for (text, word) in [
            ("", "short"),
            (&GOOD[..54], "short"),
            (&format!("{GOOD}-"), "too long"),
            (&format!("01{}x", &GOOD[2..]), "begin with"),
            (&GOOD.replacen("00", "ff", 1), "forbidden"),
            (&GOOD.replacen("00", "0x", 1), "version"),
            (&GOOD.replace("4bf9", "4BF9"), "trace id"),
            (&GOOD.replace("00f0", "00F0"), "span id"),
            (&GOOD.replace("-01", "-0g"), "flags"),
            (&GOOD.replace("36-00", "3600-"), "where they should be"),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", "zeros"),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", "zeros"),
            (&"é".repeat(40), "where"),
        ] {
            let error = TraceContext::parse(text, None).expect_err(text).to_string();
            assert!(error.contains(word), "'{word}' is missing in: {error}");
        }
    }

    #[test]
    fn a_state_is_passed_on_or_dropped_as_a_whole() {
        let many = |n: usize| (0..n).map(|i| format!("k{i}=v")).collect::<Vec<_>>().join(",");
        for (state, kept) in [
            ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", true),
            ("1a2b@vendor=x, b=y z", true),
            ("a=1,,b=2", true),
            (&many(32), true),
            (&many(33), false),
            (&format!("a={}", "x".repeat(600)), false),
            (&format!("a={}", "x".repeat(257)), false),
            ("", false),
            ("a", false),
            ("a=", false),
            ("A=1", false),
            ("a=1,a=2", false),
            ("a=1=2", false),
            ("a=\u{e9}", false),
        ] {
            let read = TraceContext::parse(GOOD, Some(state)).expect("valid");
            assert_eq!(read.tracestate(), kept.then_some(state), "{state}");
        }
    }

    #[test]
    fn a_child_is_another_span_of_the_same_trace() {
        let parent = TraceContext::parse(GOOD, Some("a=1")).expect("valid");
        let child = parent.child(&SystemEntropy);
        assert_eq!(child.trace_id(), parent.trace_id());
        assert_ne!(child.span_id(), parent.span_id());
        assert_eq!((child.tracestate(), child.is_sampled()), (Some("a=1"), true));
        let begun = TraceContext::begin(&SystemEntropy);
        assert_ne!(begun.trace_id(), parent.trace_id());
        assert_eq!(TraceContext::parse(&begun.to_string(), None).as_ref(), Ok(&begun));
    }
}
