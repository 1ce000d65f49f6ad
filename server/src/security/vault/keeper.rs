//! Keeps what is wanted of Vault: all of it at the start, and as it is now while the server runs.
//!
//! INVARIANTS: one task asks, one question at a time, so Vault is never asked by requests. What was
//! fetched stays until there is something newer. A round that fails is followed by another, after a
//! wait that grows; what it was to do is still to be done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use daybook_model::{Clock, Entropy, SystemClock, SystemEntropy, SystemTimer, Timer};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Notify;

use super::call::{Line, Question, malformed};
use super::certificate::{CertificateWish, issued};
use super::fault::{Fault, VaultError};
use super::held::{Held, Wish};
use super::session::Session;
use super::settings::Settings;
use crate::node::{Life, Phase};
use crate::security::Security;
use crate::telemetry::vault::{Asked, VaultMetrics};

/// How often secrets are looked at unless told otherwise.
pub const POLL_DEFAULT: Duration = Duration::from_secs(60);
/// How often a start tries, while Vault is away or sealed.
const START_TRIES_MAX: u32 = 5;
/// How long it tries at most, whatever it is waiting for.
const START_WAIT_MAX: Duration = Duration::from_secs(30);
/// The wait after the first round that failed; doubled after each further one.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
/// And at most: a certificate of some minutes is still renewed in time.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// The share of its life after which a certificate is renewed, at the earliest. Servers that were
/// started together shall not come back together.
const RENEW_FROM: f64 = 0.6;
/// And at the latest.
const RENEW_TO: f64 = 2.0 / 3.0;

/// What a keeper knows of the world. The machine's own by default.
#[derive(Clone)]
pub struct Seams {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How it waits.
    pub timer: Arc<dyn Timer>,
    /// What spreads its waits.
    pub entropy: Arc<dyn Entropy>,
}

impl Default for Seams {
    fn default() -> Seams {
        Seams {
            clock: Arc::new(SystemClock::new()),
            timer: Arc::new(SystemTimer),
            entropy: Arc::new(SystemEntropy),
        }
    }
}

/// Why a server does not start: something that it needs did not come from Vault.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Vault says no, or has it not: asking again does not help.
    #[error("{0}")]
    Refused(VaultError),
    /// Vault is away.
    #[error("{error} (given up after {tries} tries)")]
    Away {
        /// What came of the last try.
        error: VaultError,
        /// How often it was tried.
        tries: u32,
    },
}

/// Keeps what is wanted.
pub struct Keeper {
    line: Line,
    session: Session,
    seams: Seams,
    poll: Duration,
    secrets: BTreeMap<String, Secrets>,
    certificate: Option<(Arc<Held>, CertificateWish)>,
    /// When secrets are looked at next.
    secrets_due: Duration,
    /// When the certificate is.
    certificate_due: Duration,
    /// Rounds in a row that failed.
    failures: u32,
    /// What was said of the last one.
    told: Option<String>,
    ask: Arc<Notify>,
}

/// What is wanted of one secret.
#[derive(Default)]
struct Secrets {
    fields: Vec<(String, Arc<Held>)>,
    version: Option<Metadata>,
}

/// A secret of an engine of key and value, version 2.
#[derive(Deserialize)]
struct Versioned {
    data: BTreeMap<String, Value>,
    metadata: Metadata,
}

/// Which version it is. One that was deleted with all its versions begins again with the first.
#[derive(Deserialize, PartialEq, Eq)]
struct Metadata {
    version: u64,
    created_time: String,
}

impl Keeper {
    /// Fetches all that is `wanted`. Tries a few times while Vault is away.
    ///
    /// # Errors
    /// [`StartError`] says what did not come, and what to do.
    pub async fn start(
        settings: &Settings,
        wanted: &[Arc<Held>],
        seams: Seams,
    ) -> Result<Keeper, StartError> {
        let mut keeper = Keeper::new(settings, wanted, seams);
        let began = keeper.now();
        loop {
            let Err(error) = keeper.round().await.1 else { return Ok(keeper) };
            if !error.fault.may_pass() {
                return Err(StartError::Refused(error));
            }
            let tries = keeper.failures;
            let wait = keeper.backoff();
            let waited = keeper.now().saturating_sub(began);
            if tries >= START_TRIES_MAX || waited + wait > START_WAIT_MAX {
                return Err(StartError::Away { error, tries });
            }
            tracing::warn!(%error, ?wait, "what the server needs of Vault does not come yet");
            keeper.seams.timer.sleep(wait).await;
        }
    }

    pub(super) fn new(settings: &Settings, wanted: &[Arc<Held>], seams: Seams) -> Keeper {
        let (mut secrets, mut certificate) = (BTreeMap::<String, Secrets>::new(), None);
        for held in wanted {
            match held.wish() {
                Wish::Secret(name) => {
                    let of = secrets.entry(name.url_path()).or_default();
                    of.fields.push((name.field().to_owned(), held.clone()));
                }
                Wish::Certificate(wish) => certificate = Some((held.clone(), wish.clone())),
            }
        }
        let line = Line::new(settings, VaultMetrics::default());
        let (session, poll) = (Session::new(settings.auth.clone()), settings.poll);
        let ask = Arc::new(Notify::new());
        let (secrets_due, certificate_due) = (Duration::ZERO, Duration::ZERO);
        let (failures, told) = (0, None);
        Keeper {
            line,
            session,
            seams,
            poll,
            secrets,
            certificate,
            secrets_due,
            certificate_due,
            failures,
            told,
            ask,
        }
    }

    /// What has it look at all secrets at once, when it is told to.
    #[must_use]
    pub fn asker(&self) -> Arc<Notify> {
        self.ask.clone()
    }

    /// Keeps it all as it is in Vault until the node stops, and has `security` take up what is new.
    pub async fn watch(mut self, security: Security, life: Life) {
        let metrics = life.metrics().vault.clone();
        metrics.go_on_from(&self.line.metrics);
        self.line.metrics = metrics;
        loop {
            tokio::select! {
                () = self.seams.timer.sleep(self.wait()) => {}
                () = self.ask.notified() => self.secrets_due = Duration::ZERO,
                () = life.reached(Phase::Draining) => return,
            }
            let (changed, ended) = self.round().await;
            self.tell(ended.err());
            // What is wrong with what came is told, and counted, where it is looked at again.
            if changed {
                let _ = security.reload().await;
            }
        }
    }

    /// Does what is due. Says whether something is other than before, and what went wrong first.
    pub(super) async fn round(&mut self) -> (bool, Result<(), VaultError>) {
        let mut changed = false;
        let mut ended = self.session.tend(&self.line, self.now()).await;
        if self.session.token().is_some() && !ended.as_ref().is_err_and(|e| e.fault.may_pass()) {
            let (new, certificate) = self.renew_certificate().await;
            let (other, secrets) = self.look_at_secrets().await;
            changed = new || other;
            ended = ended.and(certificate).and(secrets);
        }
        if let Err(error) = &ended
            && matches!(error.fault, Fault::Denied(_))
        {
            self.session.doubt(self.now());
        }
        self.failures = if ended.is_ok() { 0 } else { self.failures.saturating_add(1) };
        self.line.metrics.round_ended(ended.is_ok());
        (changed, ended)
    }

    async fn renew_certificate(&mut self) -> (bool, Result<(), VaultError>) {
        let Some((held, wish)) = &self.certificate else { return (false, Ok(())) };
        let now = self.now();
        if now < self.certificate_due {
            return (false, Ok(()));
        }
        let path = wish.url_path();
        let (asked, token) = (Asked::Issue, self.session.token());
        let question = Question { asked, path: &path, body: Some(wish.body()), token };
        let answer = self.line.ask(question).await;
        let issued = answer
            .and_then(|answer| issued(answer.data).map_err(|fault| self.line.failed(&path, fault)));
        let issued = match issued {
            Ok(issued) => issued,
            Err(error) => return (false, Err(error)),
        };
        let wall = self.seams.clock.now();
        let life = u64::try_from(issued.not_after.0.saturating_sub(wall.0)).unwrap_or(0);
        let wait = Duration::from_nanos(life).mul_f64(self.share());
        if wait.is_zero() {
            let reason = "it has ended already; are the clocks of both machines right?";
            return (false, Err(self.line.failed(&path, Fault::Certificate(reason.to_owned()))));
        }
        self.certificate_due = now + wait;
        self.line.metrics.certificate_renewal_due(wall, wait);
        let changed = held.put(issued.pem);
        tracing::info!(
            role = path,
            ends_s = issued.not_after.0 / 1_000_000_000,
            renewed_in_s = wait.as_secs(),
            "Vault issued the server's certificate"
        );
        (changed, Ok(()))
    }

    /// When in its life a certificate is renewed.
    fn share(&self) -> f64 {
        let chance = f64::from(self.seams.entropy.bytes()[0]) / 255.0;
        (RENEW_TO - RENEW_FROM).mul_add(chance, RENEW_FROM)
    }

    async fn look_at_secrets(&mut self) -> (bool, Result<(), VaultError>) {
        let now = self.now();
        let (mut changed, mut ended) = (false, Ok(()));
        if now < self.secrets_due {
            return (changed, ended);
        }
        for (path, secrets) in &mut self.secrets {
            match secrets.look(&self.line, path, &self.session).await {
                Ok(other) => changed |= other,
                Err(error) => {
                    let away = error.fault.may_pass();
                    ended = ended.and(Err(error));
                    if away {
                        break;
                    }
                }
            }
        }
        if ended.is_ok() {
            self.secrets_due = now + self.poll;
        }
        (changed, ended)
    }

    /// How long until there is something to do.
    fn wait(&self) -> Duration {
        if self.failures > 0 {
            return self.backoff();
        }
        let certificate = self.certificate.as_ref().map(|_| self.certificate_due);
        // Also without secrets: there may be a file of a token to be looked at.
        let due = [certificate, self.session.due()].into_iter().flatten();
        due.fold(self.secrets_due, Duration::min).saturating_sub(self.now())
    }

    /// The wait after rounds that failed: of its full length at least half, the rest by chance.
    fn backoff(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        let full = BACKOFF_MIN.saturating_mul(1 << doublings).min(BACKOFF_MAX);
        let chance = f64::from(self.seams.entropy.bytes()[0]) / 255.0;
        full / 2 + (full / 2).mul_f64(chance)
    }

    /// Logs what is wrong once, and that it is right again.
    fn tell(&mut self, wrong: Option<VaultError>) {
        let wrong = wrong.map(|error| error.to_string());
        match (&wrong, &self.told) {
            (Some(reason), told) if told.as_ref() != Some(reason) => tracing::warn!(
                reason,
                "Vault does not give what it should; what it gave before stays in use"
            ),
            (None, Some(_)) => tracing::info!("Vault gives what it should again"),
            _ => {}
        }
        self.told = wrong;
    }

    fn now(&self) -> Duration {
        self.seams.clock.monotonic()
    }
}

impl Secrets {
    /// Fetches the secret at `path`. Says whether a field is other than before.
    async fn look(
        &mut self,
        line: &Line,
        path: &str,
        session: &Session,
    ) -> Result<bool, VaultError> {
        let question = Question { asked: Asked::Read, path, body: None, token: session.token() };
        let answer = line.ask(question).await?;
        let found: Versioned = serde_json::from_value(answer.data)
            .map_err(|error| line.failed(path, malformed(&error)))?;
        if self.version.as_ref() == Some(&found.metadata) {
            return Ok(false);
        }
        let mut values = Vec::with_capacity(self.fields.len());
        for (field, _) in &self.fields {
            let Some(Value::String(text)) = found.data.get(field) else {
                let fields = found.data.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                return Err(line.failed(path, Fault::NoField { field: field.clone(), fields }));
            };
            values.push(text.clone().into_bytes());
        }
        // All or none: a certificate must not come without its key.
        let mut changed = false;
        for ((_, held), value) in self.fields.iter().zip(values) {
            changed |= held.put(value);
        }
        if changed && self.version.is_some() {
            line.metrics.secret_changed();
            let version = found.metadata.version;
            tracing::info!(path, version, "a secret was changed in Vault, and is taken up");
        }
        self.version = Some(found.metadata);
        Ok(changed)
    }
}
