//! The circuit breaker against its specification: random calls, delays and hands on a real breaker,
//! and beside it a model that is written from the specification and nothing else.
//!
//! The model is naive on purpose. It keeps every call and every state there ever was, and works out
//! from them anew, for each question, what holds now: no ring, no running sum, no counter.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use daybook_client::resilience::{
    BreakerSettings, Changes, CircuitBreaker, Metrics, Permit, Reason, State, Subscription, Sums,
    Told, Verdict, Window, Wiring,
};
use daybook_model::{Clock, Entropy, Timer, Timestamp};
use parking_lot::Mutex;
use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

// ------------------------------------------------------------------- the model

/// One state that the breaker was in, and since when. The last of them is the present.
#[derive(Clone, Debug)]
struct Era {
    state: State,
    since: Duration,
    open_for: Duration,
    reason: Option<Reason>,
}

/// One call that was let through.
#[derive(Clone, Debug)]
struct Call {
    era: usize,
    began: Duration,
    ended: Option<(Duration, Verdict)>,
}

#[derive(Clone, Debug)]
struct Model {
    settings: BreakerSettings,
    now: Duration,
    eras: Vec<Era>,
    calls: Vec<Call>,
    /// Whether the last call that asked was let through.
    admitted: bool,
}

impl Model {
    fn new(settings: BreakerSettings) -> Model {
        let era = Era {
            state: State::Closed,
            since: Duration::ZERO,
            open_for: Duration::ZERO,
            reason: None,
        };
        let calls = Vec::new();
        Model { settings, now: Duration::ZERO, eras: vec![era], calls, admitted: true }
    }

    fn era(&self) -> &Era {
        self.eras.last().expect("there always is a state")
    }

    fn slow(&self, call: &Call) -> bool {
        call.ended.is_some_and(|(at, _)| at - call.began >= self.settings.slow_after)
    }

    /// The calls of the present era, the oldest first.
    fn present(&self) -> impl Iterator<Item = &Call> {
        let era = self.eras.len() - 1;
        self.calls.iter().filter(move |call| call.era == era)
    }

    /// Calls that are still out, in the order in which they began.
    fn out(&self) -> Vec<usize> {
        (0..self.calls.len()).filter(|nth| self.calls[*nth].ended.is_none()).collect()
    }

    fn probes_out(&self) -> usize {
        self.present().filter(|call| call.ended.is_none()).count()
    }

    /// Calls of the present era that count, in the order in which they ended.
    fn counted(&self) -> Vec<(Duration, Verdict, bool)> {
        let mut counted: Vec<(Duration, Verdict, bool)> = Vec::new();
        for call in self.present() {
            let Some((at, verdict)) = call.ended else { continue };
            let slow = self.slow(call);
            let counts = match verdict {
                Verdict::Success | Verdict::Failure => true,
                Verdict::Cancelled => slow,
                Verdict::Ignored => false,
            };
            if counts {
                counted.push((at, verdict, slow));
            }
        }
        // Calls are kept in the order in which they began. Two never end in the same nanosecond:
        // the clock moves on with every step.
        counted.sort_by_key(|(at, ..)| *at);
        counted
    }

    /// What the window holds.
    fn sums(&self) -> Sums {
        if self.era().state != State::Closed {
            return Sums::default();
        }
        let counted = self.counted();
        let seen: Vec<_> = match self.settings.window {
            Window::Calls(size) => counted.iter().rev().take(size as usize).collect(),
            Window::Time { length, parts } => {
                let part = |at: Duration| at.as_nanos() / (length / parts).as_nanos();
                let now = part(self.now);
                let within = |(at, ..): &&(Duration, _, _)| part(*at) + u128::from(parts) > now;
                counted.iter().filter(within).collect()
            }
        };
        let count = |which: &dyn Fn(&(Duration, Verdict, bool)) -> bool| {
            seen.iter().filter(|call| which(call)).count() as u64
        };
        Sums {
            calls: seen.len() as u64,
            failures: count(&|(_, verdict, _)| *verdict == Verdict::Failure),
            slow: count(&|(_, _, slow)| *slow),
        }
    }

    /// Trips in a row: back to when it was closed for so long that it was healthy, or released.
    fn trips(&self) -> u32 {
        let mut trips = 0;
        for (nth, era) in self.eras.iter().enumerate().rev() {
            if era.reason == Some(Reason::Released) {
                break;
            }
            // How long a healthy time lasted is known when it is over, by a trip.
            let ended = self.eras.get(nth + 1).filter(|next| next.state == State::Open);
            if era.state == State::Closed
                && ended.is_some_and(|next| next.since - era.since >= self.settings.healthy_after)
            {
                break;
            }
            trips += u32::from(era.state == State::Open);
        }
        trips
    }

    fn enter(&mut self, state: State, reason: Reason) {
        let (since, reason) = (self.now, Some(reason));
        self.eras.push(Era { state, since, open_for: Duration::ZERO, reason });
        if state == State::Open {
            let BreakerSettings { open_first, open_factor, open_max, .. } = self.settings;
            let mut open_for = open_first;
            for _ in 1..self.trips() {
                open_for = open_max.min(open_for * open_factor);
            }
            self.eras.last_mut().expect("just pushed").open_for = open_for;
        }
    }

    fn admit(&mut self) {
        if self.era().state == State::Open && self.now >= self.era().since + self.era().open_for {
            self.enter(State::HalfOpen, Reason::OpenTimeOver);
        }
        self.admitted = match self.era().state {
            State::Closed | State::ForcedClosed => true,
            State::Open | State::ForcedOpen => false,
            State::HalfOpen => self.probes_out() < self.settings.probes_max as usize,
        };
        if self.admitted {
            let era = self.eras.len() - 1;
            self.calls.push(Call { era, began: self.now, ended: None });
        } else if self.era().state == State::HalfOpen {
            let last = self.present().map(|call| call.began).max().expect("the places are taken");
            if self.now - last >= self.settings.probe_silence_max {
                self.enter(State::Open, Reason::ProbesSilent);
            }
        }
    }

    /// As if it asked to be let through, if it would be refused; else nothing.
    fn check(&mut self) {
        let mut asking = self.clone();
        asking.admit();
        if asking.admitted {
            self.admitted = true;
        } else {
            *self = asking;
        }
    }

    fn end(&mut self, call: usize, verdict: Verdict) {
        self.calls[call].ended = Some((self.now, verdict));
        let call = self.calls[call].clone();
        if call.era != self.eras.len() - 1 {
            return;
        }
        match self.era().state {
            State::Closed => self.end_closed(&call, verdict),
            State::HalfOpen => self.end_probe(&call, verdict),
            _ => {}
        }
    }

    fn end_closed(&mut self, call: &Call, verdict: Verdict) {
        let counts = match verdict {
            Verdict::Ignored => false,
            Verdict::Cancelled => self.slow(call),
            Verdict::Success | Verdict::Failure => true,
        };
        if !counts {
            return;
        }
        let counted = self.counted();
        let verdicts = counted.iter().rev().map(|(_, verdict, _)| *verdict);
        let in_a_row = verdicts
            .take_while(|verdict| *verdict != Verdict::Success)
            .filter(|verdict| *verdict == Verdict::Failure)
            .count();
        let in_a_row = u32::try_from(in_a_row).expect("tests are short");
        let sums = self.sums();
        let enough = sums.calls >= u64::from(self.settings.calls_min);
        let rate = |part: u64, percent: Option<u32>| {
            let share = part as f64 / sums.calls as f64 * 100.0;
            percent.is_some_and(|percent| enough && share >= f64::from(percent) - 1e-9)
        };
        if self.settings.failures_in_a_row.is_some_and(|max| in_a_row >= max) {
            self.enter(State::Open, Reason::FailuresInARow(in_a_row));
        } else if rate(sums.failures, self.settings.failure_percent) {
            self.enter(State::Open, Reason::FailureRate(sums));
        } else if rate(sums.slow, self.settings.slow_percent) {
            self.enter(State::Open, Reason::SlowRate(sums));
        }
    }

    fn end_probe(&mut self, call: &Call, verdict: Verdict) {
        let slow_matters = self.settings.slow_percent.is_some() && self.slow(call);
        let successes = self
            .present()
            .filter(|call| call.ended.is_some_and(|(_, verdict)| verdict == Verdict::Success));
        let successes = u32::try_from(successes.count()).expect("tests are short");
        match verdict {
            Verdict::Failure => self.enter(State::Open, Reason::ProbeFailed),
            Verdict::Ignored => {}
            _ if slow_matters => self.enter(State::Open, Reason::ProbeSlow),
            Verdict::Success if successes >= self.settings.successes_to_close => {
                self.enter(State::Closed, Reason::ProbesSucceeded(successes));
            }
            Verdict::Success | Verdict::Cancelled => {}
        }
    }

    fn force(&mut self, state: State) {
        if self.era().state != state {
            self.enter(state, Reason::Forced);
        }
    }

    fn release(&mut self) {
        if matches!(self.era().state, State::ForcedOpen | State::ForcedClosed) {
            self.enter(State::Closed, Reason::Released);
        }
    }

    /// When calls may be let through again, if they are refused and that is known.
    fn retry_after(&self) -> Option<Duration> {
        let era = self.era();
        let until = era.since + era.open_for;
        (era.state == State::Open && until > self.now).then(|| until - self.now)
    }
}

// ------------------------------------------------------------------- what happens

#[derive(Clone, Debug)]
enum Step {
    Pass(Duration),
    Ask,
    /// Asks without wanting to be let through.
    Check,
    /// Ends one of the calls that are out, if there are any.
    End(prop::sample::Index, Verdict),
    Force(State),
    Release,
}

fn settings() -> impl Strategy<Value = BreakerSettings> {
    let window = prop_oneof![
        (3_u32..12).prop_map(Window::Calls),
        (40_u64..400, 1_u32..8)
            .prop_map(|(ms, parts)| Window::Time { length: Duration::from_millis(ms), parts }),
    ];
    let percent = || prop::option::of(20_u32..=100);
    let rules = (prop::option::of(1_u32..6), percent(), percent(), window, 1_u32..12);
    let opening = (1_u32..4, 1_u32..4, 1_u64..100, 1_u32..4);
    (rules, opening).prop_map(|((in_a_row, failures, slow, window, calls_min), opening)| {
        let (probes_max, successes_to_close, open_first, open_factor) = opening;
        let calls_min = match window {
            Window::Calls(size) => calls_min.min(size),
            Window::Time { .. } => calls_min,
        };
        BreakerSettings {
            failures_in_a_row: in_a_row,
            failure_percent: failures,
            slow_percent: slow,
            slow_after: Duration::from_millis(20),
            window,
            calls_min,
            probes_max,
            successes_to_close,
            probe_silence_max: Duration::from_millis(120),
            open_first: Duration::from_millis(open_first),
            open_factor,
            open_max: Duration::from_millis(open_first * 5),
            // Chance has a test of its own; without it the model knows every open time.
            jitter_percent: 0,
            healthy_after: Duration::from_millis(150),
        }
    })
}

impl ReferenceStateMachine for Model {
    type State = Model;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Model> {
        settings().prop_map(Model::new).boxed()
    }

    fn transitions(_: &Model) -> BoxedStrategy<Step> {
        let verdict = prop_oneof![
            4 => Just(Verdict::Success),
            4 => Just(Verdict::Failure),
            1 => Just(Verdict::Ignored),
            1 => Just(Verdict::Cancelled),
        ];
        let forced = prop_oneof![Just(State::ForcedOpen), Just(State::ForcedClosed)];
        prop_oneof![
            30 => Just(Step::Ask),
            5 => Just(Step::Check),
            30 => (any::<prop::sample::Index>(), verdict).prop_map(|(n, v)| Step::End(n, v)),
            10 => (0_u64..30).prop_map(|ms| Step::Pass(Duration::from_millis(ms))),
            4 => (30_u64..300).prop_map(|ms| Step::Pass(Duration::from_millis(ms))),
            1 => forced.prop_map(Step::Force),
            2 => Just(Step::Release),
        ]
        .boxed()
    }

    fn apply(mut model: Model, step: &Step) -> Model {
        model.now += tick();
        match step {
            Step::Pass(time) => model.now += *time,
            Step::Ask => model.admit(),
            Step::Check => model.check(),
            Step::End(nth, verdict) => {
                let out = model.out();
                if !out.is_empty() {
                    model.end(out[nth.index(out.len())], *verdict);
                }
            }
            Step::Force(state) => model.force(*state),
            Step::Release => model.release(),
        }
        model
    }
}

/// Time that every step takes, so that no two ends are simultaneous.
fn tick() -> Duration {
    Duration::from_nanos(1)
}

// ------------------------------------------------------------------- the real one

#[derive(Debug, Default)]
struct Hand(Mutex<Duration>);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    fn monotonic(&self) -> Duration {
        *self.0.lock()
    }
}

#[derive(Debug)]
struct Nothing;

impl Timer for Nothing {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async {})
    }
}

impl Entropy for Nothing {
    fn bytes(&self) -> [u8; 16] {
        [0; 16]
    }
}

struct Real {
    breaker: CircuitBreaker,
    clock: Arc<Hand>,
    /// In the order in which they began.
    out: VecDeque<Permit>,
    changes: Subscription,
    told: usize,
    admitted: bool,
}

struct BreakerTest;

impl StateMachineTest for BreakerTest {
    type SystemUnderTest = Real;
    type Reference = Model;

    fn init_test(model: &Model) -> Real {
        let clock = Arc::new(Hand::default());
        let (timer, entropy) = (Arc::new(Nothing), Arc::new(Nothing));
        let changes = Changes::new();
        let told = changes.subscribe();
        let wiring =
            Wiring { clock: clock.clone(), timer, entropy, metrics: Metrics::new(), changes };
        let breaker = CircuitBreaker::new("model", model.settings.clone(), wiring).expect("valid");
        Real { breaker, clock, out: VecDeque::new(), changes: told, told: 1, admitted: true }
    }

    fn apply(mut real: Real, _: &Model, step: Step) -> Real {
        *real.clock.0.lock() += tick();
        match step {
            Step::Pass(time) => *real.clock.0.lock() += time,
            Step::Ask => {
                let admitted = real.breaker.admit();
                real.admitted = admitted.is_ok();
                real.out.extend(admitted);
            }
            Step::Check => real.admitted = real.breaker.check().is_ok(),
            Step::End(nth, verdict) if !real.out.is_empty() => {
                let nth = nth.index(real.out.len());
                let permit = real.out.remove(nth).expect("it is out");
                match verdict {
                    Verdict::Cancelled => drop(permit),
                    verdict => permit.finish(verdict),
                }
            }
            Step::Force(State::ForcedOpen) => real.breaker.force_open(),
            Step::Force(_) => real.breaker.force_closed(),
            Step::Release => real.breaker.release(),
            Step::End(..) => {}
        }
        real.hear_changes();
        real
    }

    fn check_invariants(real: &Real, model: &Model) {
        let status = real.breaker.status();
        assert_eq!(status.state, model.era().state);
        assert_eq!(status.sums, model.sums());
        assert_eq!(status.retry_after, model.retry_after());
        assert_eq!(status.trips, model.trips());
        assert_eq!(real.admitted, model.admitted);
        assert_eq!(real.out.len(), model.out().len());
        assert_eq!(real.told, model.eras.len(), "each change is told once");
        if status.state == State::HalfOpen {
            assert!(model.probes_out() <= model.settings.probes_max as usize);
        }
    }
}

impl Real {
    fn hear_changes(&mut self) {
        while let Some(told) = self.changes.try_next() {
            assert!(matches!(told, Told::Changed(_)), "{told:?}");
            self.told += 1;
        }
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig {
        cases: 1_000,
        failure_persistence: None,
        .. ProptestConfig::default()
    })]

    #[test]
    fn the_breaker_does_what_its_specification_says(sequential 1..200 => BreakerTest);
}
