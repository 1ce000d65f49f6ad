//! What only some events say, in one shape for all: what a line of an account's history shows.

use uuid::Uuid;

use super::AccountEvent;

/// What an event says beside its account, its amounts and its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct About<'a> {
    /// What for, or why; may be empty.
    pub text: &'a str,
    /// The other leg: cash, clearing, fees or fx_position; none if no money moved.
    pub contra: Option<&'static str>,
    /// The transfer it is a part of.
    pub transfer_id: Option<Uuid>,
    /// The account at the transfer's other end.
    pub counterparty_id: Option<Uuid>,
    /// The hold it is about.
    pub hold_id: Option<Uuid>,
}

impl AccountEvent {
    /// What it says beside its account, its amounts and its time.
    #[must_use]
    pub fn about(&self) -> About<'_> {
        let about = About::of(self);
        // An account may be opened with nothing in it.
        About { contra: about.contra.filter(|_| self.legs().is_some()), ..about }
    }
}

impl<'a> About<'a> {
    fn of(event: &'a AccountEvent) -> About<'a> {
        let says = |text| About { text, ..About::default() };
        match event {
            AccountEvent::AccountOpened(e) => {
                About { contra: Some(e.contra.as_str()), ..About::default() }
            }
            AccountEvent::MoneyDeposited(e)
            | AccountEvent::MoneyWithdrawn(e)
            | AccountEvent::FeeCharged(e) => {
                About { contra: Some(e.contra.as_str()), ..says(&e.description) }
            }
            AccountEvent::TransferDebited(e) | AccountEvent::TransferCredited(e) => About {
                contra: Some(e.contra.as_str()),
                transfer_id: Some(e.transfer_id),
                counterparty_id: Some(e.counterparty_id),
                ..says(&e.description)
            },
            AccountEvent::TransferRefunded(e) => About {
                contra: Some(e.contra.as_str()),
                transfer_id: Some(e.transfer_id),
                counterparty_id: Some(e.counterparty_id),
                ..says(&e.reason)
            },
            AccountEvent::HoldPlaced(e) => {
                About { hold_id: Some(e.hold_id), ..says(&e.description) }
            }
            AccountEvent::HoldCaptured(e) => About {
                contra: Some(e.contra.as_str()),
                hold_id: Some(e.hold_id),
                ..says(&e.description)
            },
            AccountEvent::HoldReleased(e) => About { hold_id: Some(e.hold_id), ..says(&e.reason) },
            AccountEvent::HoldExpired(e) => About { hold_id: Some(e.hold_id), ..says("expired") },
            AccountEvent::AccountFrozen(e) => says(&e.reason),
            AccountEvent::AccountUnfrozen(e) => says(&e.unfrozen_by),
            AccountEvent::AccountClosed(e) => says(&e.reason),
            AccountEvent::LimitsChanged(e) => says(&e.reason),
            AccountEvent::AccountFlagged(e) => says(&e.reason),
            AccountEvent::AccountUnflagged(e) => says(&e.unflagged_by),
        }
    }
}
