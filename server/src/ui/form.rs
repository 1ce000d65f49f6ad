//! What a form sends: fields, and the token that says from which session's page it comes.

use axum::extract::{FromRequest, Request};

use super::Ui;
use super::api::Trouble;
use super::visitor::Visitor;
use crate::http::body::Held;

/// Bytes of a form: of an event that somebody types or pastes.
pub const FORM_SIZE_MAX: usize = 2 * 1024 * 1024;
/// The field of the token.
pub const TOKEN: &str = "token";

/// The fields of a form whose token is the visitor's.
#[derive(Debug)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Those of a body.
    #[must_use]
    pub fn read(body: &[u8]) -> Fields {
        Fields(form_urlencoded::parse(body).into_owned().collect())
    }

    /// A field, without the space around it; empty if it is not there.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(found, _)| found == name);
        found.map_or("", |(_, value)| value.trim())
    }

    /// A field that has to be there.
    ///
    /// # Errors
    /// [`Trouble`] names it.
    pub fn needed(&self, name: &str) -> Result<&str, Trouble> {
        match self.text(name) {
            "" => Err(Trouble::bad(&format!("give the field '{name}'"))),
            text => Ok(text),
        }
    }

    /// A field as it was sent.
    #[must_use]
    pub fn exact(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(found, _)| found == name);
        found.map_or("", |(_, value)| value)
    }

    /// Whether a box is ticked.
    #[must_use]
    pub fn ticked(&self, name: &str) -> bool {
        self.text(name) == "yes"
    }
}

impl FromRequest<Ui> for Fields {
    type Rejection = Trouble;

    async fn from_request(request: Request, ui: &Ui) -> Result<Fields, Trouble> {
        let visitor = request.extensions().get::<Visitor>().cloned();
        let held = Held::<FORM_SIZE_MAX>::from_request(request, ui).await?;
        let fields = Fields::read(&held.bytes);
        let own = visitor.is_some_and(|visitor| visitor.has_token(fields.exact(TOKEN)));
        if !own {
            let detail = "the form is not of this session, or its page was open before you logged \
                          in: go back, reload the page, and send it again";
            return Err(Trouble::bad(detail));
        }
        Ok(fields)
    }
}
