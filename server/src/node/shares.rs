//! What is held for callers, in bytes or in calls: of all together, and of each a share.
//!
//! ```text
//!   all          |■■■■■■■■■■■■■■■■■■■■■■■■■■■·····················|   max
//!   one caller   |■■■■■■■■■■·|                                       each: beyond, it alone is refused
//! ```
//!
//! A caller is a login, or an address of those who prove none. A server that asks nobody cannot tell
//! them apart, nor can it what comes from this machine without a proof, as a proxy's requests do:
//! these have no share but all there is.
//!
//! INVARIANT: memory is bounded by what is held; who holds nothing is not known here.

use std::collections::BTreeMap;

use http::Extensions;
use parking_lot::Mutex;

use super::listener::Peer;
use crate::security::lockout::{Address, network};
use crate::security::{Caller, Proof};

/// What all may hold, and how much of it each.
#[derive(Debug)]
pub struct Shares {
    held: Mutex<Tally>,
}

#[derive(Debug)]
struct Tally {
    max: usize,
    each: usize,
    all: usize,
    of: BTreeMap<Holder, usize>,
}

/// Who holds something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// Somebody who is not told apart from others.
    Anybody,
    /// Who proved to be this login.
    Login(String),
    /// Who proved nothing, at this address.
    Address(Address),
}

impl Holder {
    /// `caller`, who asks from `peer`.
    #[must_use]
    pub fn of(caller: Option<&Caller>, peer: Option<Peer>) -> Holder {
        match (caller, peer) {
            (Some(caller), _) if caller.proof() == Proof::Unasked => Holder::Anybody,
            (Some(caller), _) if caller.login().is_some() => {
                Holder::Login(caller.login().unwrap_or_default().to_owned())
            }
            (_, Some(Peer(peer))) if !peer.ip().to_canonical().is_loopback() => {
                Holder::Address(network(peer.ip()))
            }
            _ => Holder::Anybody,
        }
    }

    /// Who made a request with these extensions.
    #[must_use]
    pub fn asking(extensions: &Extensions) -> Holder {
        Holder::of(extensions.get::<Caller>(), extensions.get::<Peer>().copied())
    }
}

/// What a caller holds; given back when dropped.
#[derive(Debug)]
pub struct Share {
    of: &'static Shares,
    holder: Holder,
    size: usize,
}

impl Shares {
    /// Room for `max` together, and `each` of one caller.
    #[must_use]
    pub const fn new(max: usize, each: usize) -> Shares {
        assert!(each <= max);
        Shares { held: Mutex::new(Tally { max, each, all: 0, of: BTreeMap::new() }) }
    }

    /// Has room for `max` together from now on, in a process that has little memory. One caller may
    /// have a quarter of that, but always `largest`.
    pub fn bound(&self, max: usize, largest: usize) {
        let mut held = self.held.lock();
        held.max = max;
        held.each = (max / 4).max(largest).min(max);
    }

    /// Begins to hold something for `holder`: nothing yet.
    #[must_use]
    pub fn begin(&'static self, holder: Holder) -> Share {
        Share { of: self, holder, size: 0 }
    }

    /// Room for `size` of `holder`; none if it, or all together, would hold too much.
    #[must_use]
    pub fn hold(&'static self, holder: Holder, size: usize) -> Option<Share> {
        let mut share = self.begin(holder);
        share.grow_to(size).then_some(share)
    }
}

impl Share {
    /// Holds `size` in all, or what it held before if that is more; says whether there was room.
    #[must_use]
    pub fn grow_to(&mut self, size: usize) -> bool {
        let more = size.saturating_sub(self.size);
        if more == 0 {
            return true;
        }
        let mut held = self.of.held.lock();
        let own = held.of.get(&self.holder).copied().unwrap_or(0);
        let is_over = self.holder != Holder::Anybody && own.saturating_add(more) > held.each;
        if is_over || held.all.saturating_add(more) > held.max {
            return false;
        }
        held.all += more;
        if self.holder != Holder::Anybody {
            held.of.insert(self.holder.clone(), own + more);
        }
        self.size = size;
        true
    }

    /// Whose it is.
    #[must_use]
    pub fn holder(&self) -> &Holder {
        &self.holder
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.size == 0 {
            return;
        }
        let mut held = self.of.held.lock();
        held.all -= self.size;
        if let Some(own) = held.of.get_mut(&self.holder) {
            *own -= self.size;
            if *own == 0 {
                held.of.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(name: &str) -> Holder {
        Holder::Login(name.to_owned())
    }

    #[test]
    fn one_caller_does_not_take_what_others_may_have() {
        static SHARES: Shares = Shares::new(100, 40);
        let mut ada = SHARES.hold(login("ada"), 30).expect("room");
        assert!(!ada.grow_to(41), "more than one may have");
        assert!(ada.grow_to(40) && ada.grow_to(10), "it is not less for that");
        assert!(SHARES.hold(login("ada"), 1).is_none(), "it has all of it");
        let bob = SHARES.hold(login("bob"), 40).expect("another has a share of its own");
        assert!(SHARES.hold(Holder::Address(1), 21).is_none(), "20 are left of all");
        let rest = SHARES.hold(Holder::Address(1), 20).expect("room");
        assert!(SHARES.hold(Holder::Anybody, 1).is_none(), "nothing is left");
        drop((ada, bob, rest));
        assert!(SHARES.held.lock().of.is_empty(), "who holds nothing takes no memory");
        drop(SHARES.hold(Holder::Anybody, 100).expect("who is not told apart has no share"));
        assert_eq!(SHARES.held.lock().all, 0);
    }

    #[test]
    fn a_holder_is_a_login_or_an_address() {
        let peer = |text: &str| Some(Peer(text.parse().expect("an address")));
        let far = peer("10.1.2.3:9");
        let ada = Caller::known("ada".to_owned(), Vec::new(), Proof::Password, None);
        assert_eq!(Holder::of(Some(&ada), far), login("ada"));
        let address = Holder::of(Some(&Caller::nobody()), far);
        assert!(matches!(address, Holder::Address(_)), "{address:?}");
        assert_eq!(Holder::of(None, far), address, "who is not believed is a stranger");
        assert_eq!(Holder::of(Some(&Caller::unasked()), far), Holder::Anybody);
        assert_eq!(Holder::of(Some(&Caller::nobody()), peer("127.0.0.1:9")), Holder::Anybody);
    }
}
