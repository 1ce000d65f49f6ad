//! Guessing passwords, made slow.
//!
//! ```text
//!   attempt(login, address) ── one more against each of ──> (login, address)   10 a minute
//!     before it is looked at                                 address           100 a minute
//!     taken back if it was right                             login             200 a minute,
//!                                                            from addresses that it does not know
//! ```
//!
//! Whoever is over a limit is refused without a look at the password, until the minute is over.
//! What is refused is not counted, nor is the same wrong password said again ([`super::verified`]):
//! a program that goes on with an old one keeps nobody out, not those behind the same address nor
//! itself once it has the new one. API tokens are not counted: nobody guesses 256 bits.
//!
//! **Why nobody can be kept out by others for ever.** Credentials that were right before are not
//! counted at all ([`super::verified`]): who works now goes on working, whatever others try. The
//! limit of a login and an address is spent by that address alone. The limit of a login against many
//! addresses at a time does not hold for the 8 addresses from which it was last right. So a botnet
//! can make a user who comes from a new address wait for as long as it goes on, and no one else;
//! without that limit it could guess as fast as it has addresses.
//!
//! An IPv6 address counts by its first 64 bits: who has one of them has all.
//!
//! INVARIANT: memory is bounded. The table has places enough that filling it costs more attempts
//! than one address has in a minute; the oldest entries make room, but none that is at its limit. If
//! all are, whoever is not in it waits.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use daybook_model::Entropy;
use parking_lot::Mutex;

use super::verified::key;
use crate::users::password::WAITING_MAX;

/// How long attempts count.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Wrong passwords for one login from one address. A person mistypes a few times.
pub const PAIR_MAX: u32 = 10;
/// Wrong passwords from one address. More than may be looked at at a time, so that many services
/// behind one proxy can all come back at once after a restart.
pub const ADDRESS_MAX: u32 = 100;
/// Wrong passwords for one login, from all addresses that it does not know.
pub const LOGIN_MAX: u32 = 200;
/// Tallies that are kept: some 100 bytes each.
pub const TALLIES_MAX: usize = 32 * 1024;
/// Logins whose addresses are remembered.
pub const FAMILIAR_MAX: usize = 4096;
/// Addresses of one login that are remembered.
const ADDRESSES_MAX: usize = 8;

/// Tallies that make room at a time, so that the table is seldom searched.
const ROOM_LEN: usize = TALLIES_MAX / 16;

const _: () = assert!(WAITING_MAX < ADDRESS_MAX as usize);
const _: () = assert!(PAIR_MAX < ADDRESS_MAX && ADDRESS_MAX < LOGIN_MAX);

/// A login, as it is remembered: whatever its length, 16 bytes.
type Login = [u8; 16];
/// An address, as it is counted.
pub type Address = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Pair(Login, Address),
    Address(Address),
    Login(Login),
}

#[derive(Clone, Copy, Debug)]
struct Tally {
    since: Duration,
    count: u32,
    max: u32,
}

/// See the module.
pub struct Lockout {
    key: [u8; 32],
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tallies: BTreeMap<Subject, Tally>,
    familiar: BTreeMap<Login, Familiar>,
}

/// From where a login was right, the newest last; and when.
struct Familiar {
    addresses: VecDeque<Address>,
    at: Duration,
}

/// How many of the limits count: the address's and that of a login from there, and the login's too.
const FROM_FAMILIAR: usize = 2;
const FROM_ELSEWHERE: usize = 3;

/// An attempt that was let through, and counts as a wrong one until it is forgiven.
#[must_use]
pub struct Attempt {
    login: Login,
    address: Address,
    /// How many of its limits it counts against.
    counted: usize,
}

impl Lockout {
    /// Nobody has tried anything.
    #[must_use]
    pub fn new(entropy: &dyn Entropy) -> Lockout {
        Lockout { key: key(entropy), state: Mutex::default() }
    }

    /// Counts an attempt, before its password is looked at: otherwise many at a time would all be
    /// let through.
    ///
    /// # Errors
    /// When to try again, if there were too many.
    pub fn attempt(&self, login: &str, peer: IpAddr, now: Duration) -> Result<Attempt, Duration> {
        let (login, address) = (self.login(login), network(peer));
        let mut state = self.state.lock();
        let familiar = state.familiar.get(&login);
        let is_familiar = familiar.is_some_and(|known| known.addresses.contains(&address));
        let counted = if is_familiar { FROM_FAMILIAR } else { FROM_ELSEWHERE };
        state.attempt(Attempt { login, address, counted }, now)
    }

    /// Takes an attempt back: it was right at that time, or nobody could say.
    pub fn forgive(&self, attempt: Attempt, right: Option<Duration>) {
        let Attempt { login, address, counted } = attempt;
        let mut state = self.state.lock();
        for (subject, _) in &limits(login, address)[..counted] {
            if let Some(tally) = state.tallies.get_mut(subject) {
                tally.count = tally.count.saturating_sub(1);
                if tally.count == 0 {
                    state.tallies.remove(subject);
                }
            }
        }
        if let Some(at) = right {
            state.tallies.remove(&Subject::Pair(login, address));
            state.remember(login, address, at);
        }
    }

    fn login(&self, login: &str) -> Login {
        let hash = blake3::keyed_hash(&self.key, login.as_bytes());
        let (half, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
        *half
    }
}

/// What of an address counts as one machine: all of it, or of IPv6 its first 64 bits.
#[must_use]
pub fn network(peer: IpAddr) -> Address {
    match peer.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        // What begins with 32 zeros is the loopback's, or routed nowhere: the two do not meet.
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

fn limits(login: Login, address: Address) -> [(Subject, u32); 3] {
    [
        (Subject::Address(address), ADDRESS_MAX),
        (Subject::Pair(login, address), PAIR_MAX),
        (Subject::Login(login), LOGIN_MAX),
    ]
}

impl State {
    fn attempt(&mut self, attempt: Attempt, now: Duration) -> Result<Attempt, Duration> {
        let limits = limits(attempt.login, attempt.address);
        let limits = &limits[..attempt.counted];
        let wait = limits.iter().filter_map(|(subject, max)| self.wait(subject, *max, now)).max();
        if let Some(wait) = wait {
            return Err(wait);
        }
        if !self.has_room(attempt.counted, now) {
            return Err(WINDOW);
        }
        for (subject, max) in limits {
            self.count(*subject, *max, now);
        }
        Ok(attempt)
    }

    /// How long `subject` has to wait, if it has.
    fn wait(&self, subject: &Subject, max: u32, now: Duration) -> Option<Duration> {
        let tally = self.tallies.get(subject)?;
        let left = (tally.since + WINDOW).saturating_sub(now);
        (tally.count >= max && !left.is_zero()).then_some(left)
    }

    fn count(&mut self, subject: Subject, max: u32, now: Duration) {
        let fresh = Tally { since: now, count: 0, max };
        let tally = self.tallies.entry(subject).or_insert(fresh);
        if now.saturating_sub(tally.since) >= WINDOW {
            *tally = fresh;
        }
        tally.count += 1;
    }

    /// Whether `more` tallies have room. Forgets what no longer counts, then the oldest that are not
    /// at their limit: whoever fills the table must not be let off by it.
    fn has_room(&mut self, more: usize, now: Duration) -> bool {
        if self.tallies.len() + more <= TALLIES_MAX {
            return true;
        }
        self.tallies.retain(|_, tally| now.saturating_sub(tally.since) < WINDOW);
        if self.tallies.len() + more > TALLIES_MAX {
            let below = self.tallies.iter().filter(|(_, tally)| tally.count < tally.max);
            let mut below: Vec<_> = below.map(|(subject, tally)| (tally.since, *subject)).collect();
            below.sort_unstable();
            for (_, subject) in below.into_iter().take(ROOM_LEN) {
                self.tallies.remove(&subject);
            }
        }
        self.tallies.len() + more <= TALLIES_MAX
    }

    fn remember(&mut self, login: Login, address: Address, at: Duration) {
        if self.familiar.len() >= FAMILIAR_MAX && !self.familiar.contains_key(&login) {
            let oldest = self.familiar.iter().min_by_key(|(_, known)| known.at);
            if let Some(oldest) = oldest.map(|(login, _)| *login) {
                self.familiar.remove(&oldest);
            }
        }
        let fresh = || Familiar { addresses: VecDeque::new(), at };
        let known = self.familiar.entry(login).or_insert_with(fresh);
        known.at = at;
        known.addresses.retain(|own| *own != address);
        known.addresses.push_back(address);
        if known.addresses.len() > ADDRESSES_MAX {
            known.addresses.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use daybook_model::SystemEntropy;

    use super::*;

    const START: Duration = Duration::from_secs(1000);

    fn address(number: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + number).into())
    }

    /// Wrong attempts until one is refused, at most `max`.
    fn spend(lockout: &Lockout, login: &str, peer: IpAddr, max: u32) -> u32 {
        (0..max).find(|_| lockout.attempt(login, peer, START).is_err()).unwrap_or(max)
    }

    #[test]
    fn an_address_has_so_many_attempts_at_a_login_in_a_minute() {
        let lockout = Lockout::new(&SystemEntropy);
        assert_eq!(spend(&lockout, "ada", address(1), 50), PAIR_MAX);
        let almost = WINDOW - Duration::from_secs(1);
        let wait = lockout.attempt("ada", address(1), START + almost).err();
        assert_eq!(wait, Some(Duration::from_secs(1)));
        assert!(lockout.attempt("ada", address(2), START).is_ok(), "another address");
        assert!(lockout.attempt("bob", address(1), START).is_ok(), "another login");
        assert!(lockout.attempt("ada", address(1), START + WINDOW).is_ok(), "later");
    }

    #[test]
    fn what_was_right_does_not_count() {
        let lockout = Lockout::new(&SystemEntropy);
        for _ in 0..PAIR_MAX * 3 {
            let attempt = lockout.attempt("ada", address(1), START).expect("let through");
            lockout.forgive(attempt, Some(START));
        }
        // One that is right makes up for those before.
        assert_eq!(spend(&lockout, "ada", address(1), PAIR_MAX - 1), PAIR_MAX - 1);
        lockout.forgive(lockout.attempt("ada", address(1), START).expect("the last"), Some(START));
        assert_eq!(spend(&lockout, "ada", address(1), 50), PAIR_MAX);
    }

    #[test]
    fn an_address_cannot_try_one_password_on_many_logins() {
        let lockout = Lockout::new(&SystemEntropy);
        let let_through =
            (0..500).filter(|n| lockout.attempt(&format!("u{n}"), address(1), START).is_ok());
        assert_eq!(let_through.count(), ADDRESS_MAX as usize);
    }

    #[test]
    fn many_addresses_slow_down_a_login_but_not_where_it_is_known() {
        let lockout = Lockout::new(&SystemEntropy);
        let home = lockout.attempt("ada", address(0), START).expect("let through");
        lockout.forgive(home, Some(START));
        let botnet = (1..1000).filter(|n| lockout.attempt("ada", address(*n), START).is_ok());
        assert_eq!(botnet.count(), LOGIN_MAX as usize);
        assert!(lockout.attempt("ada", address(2000), START).is_err(), "a new address waits");
        assert!(lockout.attempt("ada", address(0), START).is_ok(), "a known one does not");
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let lockout = Lockout::new(&SystemEntropy);
        let of = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(spend(&lockout, "ada", of("2001:db8::1"), 50), PAIR_MAX);
        assert!(lockout.attempt("ada", of("2001:db8::ffff:2"), START).is_err());
        assert!(lockout.attempt("ada", of("2001:db8:0:1::1"), START).is_ok());
        assert_eq!(spend(&lockout, "bob", of("::ffff:10.0.0.1"), 50), PAIR_MAX);
        assert!(lockout.attempt("bob", of("10.0.0.1"), START).is_err(), "the same machine");
    }

    #[test]
    fn whoever_fills_the_table_is_not_let_off_by_it() {
        let lockout = Lockout::new(&SystemEntropy);
        assert_eq!(spend(&lockout, "ada", address(1), 50), PAIR_MAX);
        for number in 2..20_000 {
            let _ = lockout.attempt(&number.to_string(), address(number), START);
        }
        assert!(lockout.attempt("ada", address(1), START).is_err());
        // What is taken back leaves nothing.
        let lockout = Lockout::new(&SystemEntropy);
        let attempt = lockout.attempt("ada", address(1), START).expect("let through");
        lockout.forgive(attempt, None);
        assert!(lockout.state.lock().tallies.is_empty());
    }

    #[test]
    fn the_table_is_bounded() {
        let lockout = Lockout::new(&SystemEntropy);
        for number in 0..11_500 {
            let _ = lockout.attempt(&number.to_string(), address(number), START);
        }
        assert!(lockout.state.lock().tallies.len() <= TALLIES_MAX);
        // What is over makes room first.
        for number in 20_000..21_000 {
            let _ = lockout.attempt(&number.to_string(), address(number), START + WINDOW);
        }
        assert!(lockout.state.lock().tallies.len() <= 3 * 1000);
    }
}
