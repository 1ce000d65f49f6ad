//! Whether the log holds exactly what the users did: each transfer of the run, its legs and its
//! end, beside what its sender was told.
//!
//! ```text
//!   completed     one debit, one credit                      PaymentCompleted, told "completed"
//!   compensated   one debit and its refund, or no leg at all PaymentRejected, told "compensated"
//!   never begun   nothing                                    told nothing certain
//!   else          a finding
//! ```
//!
//! Facts come in any order, from a read of the log by event type; a transfer's are counted as they
//! come, so memory is a few bytes a transfer.
//!
//! INVARIANT: pure; knows neither the server's code nor its arithmetic.

use uuid::Uuid;

use super::amount;
use super::plan::{Kind, Named, Plan};

/// Findings that are told in words; all are counted.
const FINDINGS_MAX: usize = 20;

/// What a sender was told about a transfer in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The money has arrived.
    Completed,
    /// It has not left, or come back.
    Compensated,
    /// The saga needs a human.
    Failed,
    /// Nothing certain: no answer came.
    Unknown,
}

/// One transfer that a user sent. Its number among the user's is part of its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Whom to.
    pub receiver: u32,
    /// How much, in minor units.
    pub amount: u32,
    /// What came of it.
    pub told: Told,
}

/// Which leg an account's event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Money leaves the sender.
    Debit,
    /// Money arrives at the receiver.
    Credit,
    /// Money comes back to the sender.
    Refund,
}

/// How a transfer's own stream says it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// PaymentCompleted.
    Completed,
    /// PaymentRejected.
    Rejected,
}

/// One leg as the log has it.
#[derive(Clone, Copy, Debug)]
pub struct Leg<'a> {
    /// Which.
    pub side: Side,
    /// The stream it stands in.
    pub stream: &'a str,
    /// The account it names.
    pub account: Uuid,
    /// The other account it names.
    pub counterparty: Uuid,
    /// The transfer it belongs to.
    pub transfer: Uuid,
    /// How much.
    pub amount: &'a str,
    /// Of which currency.
    pub currency: &'a str,
    /// The account of the house that is its other side.
    pub contra: &'a str,
}

/// What was found to be wrong: how many things, and the first of them in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// How many.
    pub count: u64,
    /// The first.
    pub texts: Vec<String>,
}

impl Findings {
    /// Adds one.
    pub fn add(&mut self, text: impl FnOnce() -> String) {
        self.count += 1;
        if self.texts.len() < FINDINGS_MAX {
            self.texts.push(text());
        }
    }
}

/// What the log was seen to hold of one transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    debits: u8,
    credits: u8,
    refunds: u8,
    completions: u8,
    rejections: u8,
}

impl Seen {
    /// How the transfer stands, if it may stand so.
    fn state(self) -> Option<State> {
        match (self.debits, self.credits, self.refunds, self.completions, self.rejections) {
            (0, 0, 0, 0, 0) => Some(State::NeverBegun),
            (1, 1, 0, 1, 0) => Some(State::Completed),
            (1, 0, 1, 0, 1) | (0, 0, 0, 0, 1) => Some(State::Compensated),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    NeverBegun,
    Completed,
    Compensated,
}

/// What an audit came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audited {
    /// Transfers that were compared.
    pub transfers: u64,
    /// Of them, completed.
    pub completed: u64,
    /// Of them, compensated.
    pub compensated: u64,
    /// Of them, unknown to the log: their requests failed before anything was written.
    pub never_begun: u64,
    /// Legs and ends of the run that the log holds.
    pub facts: u64,
    /// What is wrong.
    pub findings: Findings,
    /// What each account received less what it sent, in minor units.
    pub net: Vec<i128>,
}

/// The comparison.
#[derive(Debug)]
pub struct Audit<'a> {
    plan: Plan,
    /// By sender, then in the order sent.
    sent: &'a [Vec<Sent>],
    seen: Vec<Vec<Seen>>,
    facts: u64,
    findings: Findings,
}

impl<'a> Audit<'a> {
    /// An audit of what was `sent`, by sender.
    #[must_use]
    pub fn new(plan: Plan, sent: &'a [Vec<Sent>]) -> Audit<'a> {
        let seen = sent.iter().map(|sent| vec![Seen::default(); sent.len()]).collect();
        Audit { plan, sent, seen, facts: 0, findings: Findings::default() }
    }

    /// Takes a leg from the log.
    pub fn leg(&mut self, leg: &Leg<'_>) {
        let Some((named, sent)) = self.sent(leg.transfer) else {
            // Somebody else's transfer may not touch our accounts.
            if self.plan.named(leg.account).is_some() {
                self.findings.add(|| {
                    format!(
                        "{:?} of {} {} on {} belongs to {}, which nobody sent",
                        leg.side, leg.amount, leg.currency, leg.stream, leg.transfer
                    )
                });
            }
            return;
        };
        self.facts += 1;
        if let Some(wrong) = self.wrong_in(leg, named, sent) {
            self.findings.add(|| format!("{:?} of {}: {wrong}", leg.side, leg.transfer));
        }
        let seen = &mut self.seen[named.account as usize][named.number as usize];
        let counter = match leg.side {
            Side::Debit => &mut seen.debits,
            Side::Credit => &mut seen.credits,
            Side::Refund => &mut seen.refunds,
        };
        *counter = counter.saturating_add(1);
    }

    /// Takes the end of a transfer from the log, and what a completion says was moved.
    pub fn end(&mut self, transfer: Uuid, end: End, moved: Option<(&str, &str)>) {
        let Some((named, sent)) = self.sent(transfer) else { return };
        self.facts += 1;
        let currency = self.plan.currency(named.account);
        if let Some((amount, code)) = moved
            && (amount::parse(amount, currency.digits()) != Some(i128::from(sent.amount))
                || code != currency.code())
        {
            let wanted = amount::text(i128::from(sent.amount), currency);
            self.findings
                .add(|| format!("{transfer} completed with {amount} {code}, {wanted} were sent"));
        }
        let seen = &mut self.seen[named.account as usize][named.number as usize];
        let counter = match end {
            End::Completed => &mut seen.completions,
            End::Rejected => &mut seen.rejections,
        };
        *counter = counter.saturating_add(1);
    }

    /// What the transfer of this id was, if it was sent in this run.
    fn sent(&self, transfer: Uuid) -> Option<(Named, Sent)> {
        let named = self.plan.named(transfer).filter(|named| named.kind == Kind::Transfer)?;
        let sent = self.sent.get(named.account as usize)?.get(named.number as usize)?;
        Some((named, *sent))
    }

    /// What a leg has wrong, if anything.
    fn wrong_in(&self, leg: &Leg<'_>, named: Named, sent: Sent) -> Option<String> {
        let (account, counterparty) = match leg.side {
            Side::Debit | Side::Refund => (named.account, sent.receiver),
            Side::Credit => (sent.receiver, named.account),
        };
        let expected = self.plan.account_id(account);
        let currency = self.plan.currency(named.account);
        if leg.account != expected {
            return Some(format!("on account {}, not {expected}", leg.account));
        }
        if leg.counterparty != self.plan.account_id(counterparty) {
            return Some(format!("names {} as the other account", leg.counterparty));
        }
        if leg.stream.strip_prefix("ledger.account-") != Some(expected.to_string().as_str()) {
            return Some(format!("stands in stream {}", leg.stream));
        }
        let wanted = i128::from(sent.amount);
        if amount::parse(leg.amount, currency.digits()) != Some(wanted) {
            let wanted = amount::text(wanted, currency);
            return Some(format!("of {}, {wanted} were sent", leg.amount));
        }
        if leg.currency != currency.code() {
            return Some(format!("in {}, {} were sent", leg.currency, currency.code()));
        }
        (leg.contra != "clearing").then(|| format!("against {}, not clearing", leg.contra))
    }

    /// Compares, once all the log has been taken.
    #[must_use]
    pub fn finish(mut self) -> Audited {
        let accounts = self.plan.accounts() as usize;
        let mut audited = Audited { net: vec![0; accounts], ..Audited::default() };
        for (sender, (sent, seen)) in self.sent.iter().zip(&self.seen).enumerate() {
            let account = u32::try_from(sender).expect("at most USERS_MAX");
            for (number, (sent, seen)) in sent.iter().zip(seen).enumerate() {
                let number = u32::try_from(number).expect("numbers of ids");
                let id = self.plan.id(Kind::Transfer, account, number);
                audited.transfers += 1;
                let state = seen.state();
                match state {
                    Some(State::Completed) => {
                        audited.completed += 1;
                        audited.net[sender] -= i128::from(sent.amount);
                        audited.net[sent.receiver as usize] += i128::from(sent.amount);
                    }
                    Some(State::Compensated) => audited.compensated += 1,
                    Some(State::NeverBegun) => audited.never_begun += 1,
                    None => {}
                }
                if let Some(wrong) = self.wrong_end(account, *sent, state) {
                    self.findings.add(|| format!("{id}: {wrong} ({seen:?})"));
                }
            }
        }
        audited.facts = self.facts;
        audited.findings = self.findings;
        audited
    }

    /// What is wrong with how a transfer stands, if anything.
    fn wrong_end(&self, sender: u32, sent: Sent, state: Option<State>) -> Option<&'static str> {
        match (state, sent.told) {
            (None, _) => Some("the log has it half done or twice"),
            (_, Told::Failed) => Some("its saga failed"),
            (Some(State::Completed), _)
                if self.plan.is_risky(sender) || self.plan.is_risky(sent.receiver) =>
            {
                Some("completed though its sender or its receiver is flagged")
            }
            (_, Told::Unknown)
            | (Some(State::Completed), Told::Completed)
            | (Some(State::Compensated), Told::Compensated) => None,
            (Some(State::NeverBegun), _) => Some("its sender had an answer, the log has nothing"),
            (Some(State::Compensated), _) => Some("compensated, told as completed"),
            (Some(State::Completed), _) => Some("completed, told as compensated"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMOUNT: u32 = 1234;

    fn plan() -> Plan {
        Plan::new([9; 16], 20)
    }

    fn transfer(sender: u32) -> Uuid {
        plan().id(Kind::Transfer, sender, 0)
    }

    /// One leg of the only transfer of `sender` to user 1, then changed by `change`.
    fn leg(audit: &mut Audit<'_>, side: Side, sender: u32, change: impl Fn(&mut Leg<'_>)) {
        let (mut account, mut counterparty) = (plan().account_id(sender), plan().account_id(1));
        if side == Side::Credit {
            std::mem::swap(&mut account, &mut counterparty);
        }
        let stream = format!("ledger.account-{account}");
        let mut leg = Leg {
            side,
            stream: &stream,
            account,
            counterparty,
            transfer: transfer(sender),
            amount: "12.34",
            currency: "USD",
            contra: "clearing",
        };
        change(&mut leg);
        audit.leg(&leg);
    }

    /// What an audit finds if each of `senders` has sent one transfer and was `told` about it, and
    /// the log has what `history` puts into it.
    fn audited(told: &[(u32, Told)], history: impl Fn(&mut Audit<'_>)) -> Audited {
        let mut sent = vec![Vec::new(); 20];
        for (sender, told) in told {
            sent[*sender as usize].push(Sent { receiver: 1, amount: AMOUNT, told: *told });
        }
        let mut audit = Audit::new(plan(), &sent);
        history(&mut audit);
        audit.finish()
    }

    fn completed(audit: &mut Audit<'_>) {
        leg(audit, Side::Debit, 0, |_| {});
        leg(audit, Side::Credit, 0, |_| {});
        audit.end(transfer(0), End::Completed, Some(("12.34", "USD")));
    }

    fn refunded(audit: &mut Audit<'_>, sender: u32) {
        audit.end(transfer(sender), End::Rejected, None);
        leg(audit, Side::Refund, sender, |_| {});
        leg(audit, Side::Debit, sender, |_| {});
    }

    #[test]
    fn a_sound_history_has_no_findings() {
        let told = [
            (0, Told::Completed),
            (2, Told::Compensated),
            (3, Told::Compensated),
            (4, Told::Unknown),
            (7, Told::Compensated),
        ];
        let audited = audited(&told, |audit| {
            completed(audit);
            refunded(audit, 2);
            audit.end(transfer(3), End::Rejected, None);
            refunded(audit, 7);
        });
        assert_eq!(audited.findings, Findings::default());
        assert_eq!((audited.transfers, audited.completed, audited.compensated), (5, 1, 3));
        assert_eq!((audited.never_begun, audited.facts), (1, 10));
        assert_eq!((audited.net[0], audited.net[1], audited.net[2]), (-1234, 1234, 0));
    }

    #[test]
    fn a_transfer_that_is_not_whole_is_found() {
        type History = fn(&mut Audit<'_>);
        let histories: [(&str, Told, History); 12] = [
            ("no credit", Told::Completed, |audit| {
                leg(audit, Side::Debit, 0, |_| {});
                audit.end(transfer(0), End::Completed, None);
            }),
            ("no debit", Told::Completed, |audit| {
                leg(audit, Side::Credit, 0, |_| {});
                audit.end(transfer(0), End::Completed, None);
            }),
            ("a second credit", Told::Completed, |audit| {
                completed(audit);
                leg(audit, Side::Credit, 0, |_| {});
            }),
            ("a second debit", Told::Completed, |audit| {
                completed(audit);
                leg(audit, Side::Debit, 0, |_| {});
            }),
            ("credited and refunded", Told::Completed, |audit| {
                completed(audit);
                leg(audit, Side::Refund, 0, |_| {});
            }),
            ("no end", Told::Unknown, |audit| {
                leg(audit, Side::Debit, 0, |_| {});
                leg(audit, Side::Credit, 0, |_| {});
            }),
            ("debited and nothing else", Told::Unknown, |audit| {
                leg(audit, Side::Debit, 0, |_| {});
            }),
            ("two ends", Told::Completed, |audit| {
                completed(audit);
                audit.end(transfer(0), End::Rejected, None);
            }),
            ("no refund", Told::Compensated, |audit| {
                leg(audit, Side::Debit, 0, |_| {});
                audit.end(transfer(0), End::Rejected, None);
            }),
            ("lost after it was acknowledged", Told::Completed, |_| {}),
            ("completed, told otherwise", Told::Compensated, completed),
            ("compensated, told otherwise", Told::Completed, |audit| refunded(audit, 0)),
        ];
        for (name, told, history) in histories {
            let audited = audited(&[(0, told)], history);
            assert_eq!(audited.findings.count, 1, "{name}: {:?}", audited.findings);
        }
    }

    #[test]
    fn a_leg_that_is_wrong_is_found() {
        type Change = fn(&mut Leg<'_>);
        let changes: [(&str, Change); 7] = [
            ("amount", |leg| leg.amount = "12.35"),
            ("scale", |leg| leg.amount = "12.340"),
            ("currency", |leg| leg.currency = "EUR"),
            ("contra", |leg| leg.contra = "cash"),
            ("account", |leg| leg.account = plan().account_id(5)),
            ("counterparty", |leg| leg.counterparty = plan().account_id(5)),
            ("stream", |leg| leg.stream = "ledger.account-elsewhere"),
        ];
        for side in [Side::Debit, Side::Credit] {
            for (name, change) in changes {
                let audited = audited(&[(0, Told::Completed)], |audit| {
                    leg(audit, Side::Debit, 0, |leg| {
                        if side == Side::Debit {
                            change(leg);
                        }
                    });
                    leg(audit, Side::Credit, 0, |leg| {
                        if side == Side::Credit {
                            change(leg);
                        }
                    });
                    audit.end(transfer(0), End::Completed, Some(("12.34", "USD")));
                });
                assert_eq!(audited.findings.count, 1, "{side:?} {name}: {:?}", audited.findings);
            }
        }
    }

    #[test]
    fn a_completion_that_names_another_amount_is_found() {
        for moved in [("12.33", "USD"), ("12.34", "EUR"), ("1234", "USD")] {
            let audited = audited(&[(0, Told::Completed)], |audit| {
                leg(audit, Side::Debit, 0, |_| {});
                leg(audit, Side::Credit, 0, |_| {});
                audit.end(transfer(0), End::Completed, Some(moved));
            });
            assert_eq!(audited.findings.count, 1, "{moved:?}");
        }
    }

    #[test]
    fn a_completed_transfer_to_or_from_a_flagged_account_is_found() {
        let audited = audited(&[(7, Told::Completed)], |audit| {
            leg(audit, Side::Debit, 7, |_| {});
            leg(audit, Side::Credit, 7, |_| {});
            audit.end(transfer(7), End::Completed, None);
        });
        assert_eq!(audited.findings.count, 1, "{:?}", audited.findings);
        let sent = [vec![Sent { receiver: 7, amount: AMOUNT, told: Told::Completed }]];
        let mut audit = Audit::new(plan(), &sent);
        let flagged = plan().account_id(7);
        let stream = format!("ledger.account-{flagged}");
        leg(&mut audit, Side::Debit, 0, |leg| leg.counterparty = flagged);
        let credited = Leg {
            side: Side::Credit,
            stream: &stream,
            account: flagged,
            counterparty: plan().account_id(0),
            transfer: transfer(0),
            amount: "12.34",
            currency: "USD",
            contra: "clearing",
        };
        audit.leg(&credited);
        audit.end(transfer(0), End::Completed, None);
        assert_eq!(audit.finish().findings.count, 1);
    }

    #[test]
    fn other_traffic_is_left_alone_unless_it_touches_our_accounts() {
        let elsewhere = |leg: &mut Leg<'_>| {
            leg.transfer = Uuid::nil();
            leg.account = Uuid::nil();
        };
        let audited = audited(&[], |audit| {
            leg(audit, Side::Debit, 0, elsewhere);
            audit.end(Uuid::nil(), End::Completed, None);
        });
        assert_eq!((audited.findings.count, audited.facts), (0, 0));
        let audited = super::tests::audited(&[], |audit| {
            // A number that nobody sent, and another's transfer.
            leg(audit, Side::Debit, 0, |_| {});
            leg(audit, Side::Credit, 0, |leg| leg.transfer = Uuid::nil());
        });
        assert_eq!(audited.findings.count, 2, "{:?}", audited.findings);
    }

    #[test]
    fn findings_are_counted_beyond_those_told() {
        let mut findings = Findings::default();
        for number in 0..1000 {
            findings.add(|| number.to_string());
        }
        assert_eq!((findings.count, findings.texts.len()), (1000, FINDINGS_MAX));
    }
}
