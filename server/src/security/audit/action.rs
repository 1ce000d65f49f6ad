//! An action, from before it is done until it is known how it came out.
//!
//! ```text
//!   Action ─ begin ─> $ActionBegun is durable ─ done ─ end ─> $ActionEnded: how it came out
//!      └ dropped before, between or after: its caller left, and $ActionEnded says when
//! ```
//!
//! INVARIANT: what has a beginning in the log has an end there, too, whoever leaves meanwhile.

use std::sync::{Arc, OnceLock};

use daybook_model::NewEvent;
use daybook_store::AppendError;
use serde_json::Value;
use uuid::Uuid;

use super::{Asked, Audit, described, to_audit};

/// What an action is about, as far as its handler says so.
#[derive(Clone, Debug, Default)]
pub struct Subject(Arc<OnceLock<String>>);

impl Subject {
    /// It is about `name`. The first one counts.
    pub fn is(&self, name: &str) {
        // One that is said a second time is the same.
        let _ = self.0.set(name.to_owned());
    }
}

/// See the module.
#[must_use]
pub struct Action<'a> {
    audit: &'a Audit,
    id: Uuid,
    asked: Asked<'a>,
    subject: Subject,
    outcome: String,
}

impl<'a> Action<'a> {
    pub(super) fn new(audit: &'a Audit, asked: Asked<'a>) -> Action<'a> {
        let outcome = "the caller left before it was begun".to_owned();
        Action { audit, id: audit.new_id(), asked, subject: Subject::default(), outcome }
    }

    /// Where its handler says what it is about.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Records that it is begun; answers when that is durable.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn begin(&mut self) -> Result<(), AppendError> {
        let mut members = described(self.asked);
        members.insert("id".to_owned(), self.id.to_string().into());
        let event = NewEvent::json(self.id, "$ActionBegun", Value::Object(members).to_string());
        // In a box: it is rare, and every request has room for it.
        let begun = Box::pin(self.audit.inner.store.append(to_audit(vec![event]))).await;
        self.outcome = match &begun {
            // Then it may have been done.
            Ok(_) => "the caller left before it was told".to_owned(),
            Err(error) => format!("not recorded before it was done: {error}"),
        };
        begun.map(drop)
    }

    /// Records how it came out.
    pub fn end(mut self, outcome: String) {
        self.outcome = outcome;
    }
}

impl Drop for Action<'_> {
    fn drop(&mut self) {
        let mut members = described(self.asked);
        members.insert("id".to_owned(), self.id.to_string().into());
        members.insert("outcome".to_owned(), self.outcome.as_str().into());
        let about = self.subject.0.get().map(|about| super::shortened(about));
        members.insert("about".to_owned(), about.into());
        self.audit.queue("$ActionEnded", members);
    }
}
