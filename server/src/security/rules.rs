//! What decides about streams for a whole node: the defaults in `$settings`, held in memory, and
//! where denials are recorded.
//!
//! A stream's own list is looked up in the store's cache of metadata; see
//! [`Store::access_list`]. Nothing is looked up for administrators, nor where nobody is asked.

use std::sync::Arc;

use arc_swap::ArcSwap;
use daybook_model::{Act, Denied, StreamName};
use daybook_store::{
    Delivery, Direction, From, ReadError, ReadStream, Store, StreamState, SubscribeFrom,
};

use super::Caller;
use super::acl::{self, Defaults, SETTINGS_STREAM};
use super::audit::{Asked, Audit};

/// The rules of a node.
pub struct Rules {
    defaults: ArcSwap<Defaults>,
    /// Held while the settings are read, so that an older reading never outlasts a newer one.
    reading: tokio::sync::Mutex<()>,
    audit: Audit,
}

impl Rules {
    /// Those of `store`, whose denials are recorded in `audit`.
    ///
    /// # Errors
    /// [`ReadError`] if `$settings` cannot be read: nobody would know what holds.
    pub async fn load(store: &Store, audit: Audit) -> Result<Rules, ReadError> {
        let defaults = ArcSwap::from_pointee(Defaults::built_in());
        let rules = Rules { defaults, reading: tokio::sync::Mutex::default(), audit };
        rules.reload(store).await?;
        Ok(rules)
    }

    /// Looks at `$settings` again.
    ///
    /// # Errors
    /// [`ReadError`] if it cannot be read; what held before holds on.
    pub async fn reload(&self, store: &Store) -> Result<(), ReadError> {
        let _reading = self.reading.lock().await;
        let stream = StreamName::new(SETTINGS_STREAM).expect("the name is valid");
        let direction = Direction::Backwards;
        let query = ReadStream { stream: stream.clone(), from: From::End, direction, count: 1 };
        let page = match store.read_stream(query).await {
            Ok(mut reader) => reader.next().await?,
            Err(ReadError::StreamNotFound { .. } | ReadError::StreamDeleted { .. }) => None,
            Err(error) => return Err(error),
        };
        let last = page.as_ref().and_then(|page| page.last());
        let defaults = match last {
            Some(event) => Defaults::of_settings(event.data),
            None if store.stream_info(&stream).await?.state == StreamState::Missing => {
                Defaults::built_in()
            }
            // Deleted, or older than its metadata lets it be: that must not open what was closed.
            None => {
                tracing::warn!(
                    "$settings is deleted: streams without lists are $admins' alone; append to it \
                     what shall hold, or an event with the data {{}} for what is built in"
                );
                Defaults::nobody()
            }
        };
        self.defaults.store(defaults.into());
        Ok(())
    }

    /// Looks at `$settings` again whenever something is appended to it, until the store is closed:
    /// whoever wrote it may have left before it was taken up.
    pub async fn follow(self: Arc<Self>, store: Store) {
        let stream = StreamName::new(SETTINGS_STREAM).expect("the name is valid");
        let mut settings = store.subscribe_stream(&stream, SubscribeFrom::End);
        loop {
            match settings.next().await {
                Ok(Delivery::Events(_)) => {
                    if let Err(error) = self.reload(&store).await {
                        tracing::error!(%error, "cannot read $settings; what held before holds on");
                    }
                }
                Ok(_) => {}
                Err(ReadError::Closed) => return,
                Err(error) => {
                    tracing::error!(%error, "$settings cannot be followed; a restart takes it up");
                    return;
                }
            }
        }
    }

    /// Where denials and actions are recorded.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Asks whether the caller may do `act` with `stream` of `store`. `asked.what` is not looked at.
    ///
    /// # Errors
    /// [`ReadError::Denied`] if not; others if its metadata cannot be read.
    pub async fn ask(
        &self,
        store: &Store,
        asked: Asked<'_>,
        (act, stream): (Act, &str),
    ) -> Result<(), ReadError> {
        if acl::is_above(asked.caller) {
            return Ok(());
        }
        let (act, stream) = acl::meant(act, stream);
        let own = store.access_list(stream).await?;
        let decided =
            acl::check(asked.caller, (act, stream), own.as_deref(), &self.defaults.load());
        decided.map_err(|hint| ReadError::Denied(self.denied(asked, (act, stream), hint)))
    }

    /// Whether the caller may do `act` with `stream` of `store`; nothing is recorded.
    ///
    /// # Errors
    /// [`ReadError`] if its metadata cannot be read.
    pub async fn allow(
        &self,
        store: &Store,
        caller: &Caller,
        (act, stream): (Act, &str),
    ) -> Result<bool, ReadError> {
        if acl::is_above(caller) {
            return Ok(true);
        }
        let (act, stream) = acl::meant(act, stream);
        let own = store.access_list(stream).await?;
        Ok(acl::check(caller, (act, stream), own.as_deref(), &self.defaults.load()).is_ok())
    }

    /// Records that the caller may not do `act` with `stream`, and says so.
    pub fn denied(
        &self,
        asked: Asked<'_>,
        (act, stream): (Act, &str),
        hint: &'static str,
    ) -> Denied {
        let what = format!("{act} {stream}");
        self.audit.denied(Asked { what: &what, ..asked }, hint);
        let who = asked
            .caller
            .login()
            .map_or("a caller without a name".to_owned(), |login| format!("'{login}'"));
        Denied { who, act, stream: stream.to_owned(), hint }
    }
}
