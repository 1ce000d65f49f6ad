//! Persistent subscriptions: the server keeps the place, and shares the messages among all that
//! consume with the same group.
//!
//! ```text
//!   Persistent   create update delete info list replay_parked ── groups, by name
//!       └─ consume ──> Consumer ── next ──> GroupMessage ── ack, retry, park, skip ──> the server
//! ```
//!
//! Each message is delivered at least once: again if its consumer goes away, takes too long, or asks
//! for it, and parked when that was tried often enough. A consumer whose connection is lost comes
//! back by itself; what it had was given to others meanwhile, so that an answer to a message of a
//! lost connection says that it was lost.
//!
//! ```no_run
//! use daybook_client::persistent::{Group, GroupSettings, GroupStart};
//! use daybook_client::{Client, StreamName};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new("daybook://127.0.0.1:2113?tls=false")?;
//! let group = Group::of_stream(StreamName::new("orders")?, "mailer");
//! let groups = client.persistent();
//! groups.create(&group, &GroupSettings::default(), GroupStart::Start).await?;
//! let mut consumer = groups.consume(&group, 10).await?;
//! loop {
//!     let message = consumer.next().await?;
//!     println!("{:?}", message.resolved.event);
//!     message.ack().await?;
//! }
//! # }
//! ```

mod consumer;
mod settings;

use daybook_model::StreamName;
use daybook_wire::proto::persistent as proto;
use daybook_wire::proto::persistent::persistent_subscriptions_client::PersistentSubscriptionsClient;
use daybook_wire::proto::shared::Empty;
use daybook_wire::{stream, trailer};
use tonic::Status;

use crate::connection::{ANSWER_SIZE_MAX, Client, Route};
use crate::error::CallError;
use crate::read::EventFilter;

pub use consumer::{Consumer, GroupMessage};
pub use settings::{GroupInfo, GroupSettings, GroupStart, Strategy};

/// What a group follows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupSource {
    /// A stream, which need not exist yet.
    Stream(StreamName),
    /// `$all`.
    All,
}

/// Names a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// What it follows.
    pub source: GroupSource,
    /// Its name among those that follow the same.
    pub name: String,
}

impl Group {
    /// A group that follows a stream.
    #[must_use]
    pub fn of_stream(stream: StreamName, name: &str) -> Group {
        Group { source: GroupSource::Stream(stream), name: name.to_owned() }
    }

    /// A group that follows `$all`.
    #[must_use]
    pub fn of_all(name: &str) -> Group {
        Group { source: GroupSource::All, name: name.to_owned() }
    }
}

/// Why something was not done for a group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// There is no such group.
    #[error("{reason}")]
    Missing {
        /// What the server says.
        reason: String,
    },
    /// There is such a group already.
    #[error("{reason}")]
    Exists {
        /// What the server says.
        reason: String,
    },
    /// The group has as many consumers as it may.
    #[error("{reason}")]
    Full {
        /// What the server says.
        reason: String,
    },
    /// The group has let go of the consumer: it was changed, or loaded anew.
    #[error("{reason}")]
    Dropped {
        /// What the server says.
        reason: String,
    },
    /// It cannot be done as it was asked for.
    #[error("{reason}")]
    Failed {
        /// What the server says.
        reason: String,
    },
    /// The connection over which the message came is lost: it was given to others.
    #[error("the connection over which the message came is lost; it is delivered again")]
    Lost,
    /// It was not carried out.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl GroupError {
    /// Whether the same may succeed later, or over a new connection.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            GroupError::Dropped { .. } => true,
            GroupError::Call(call) => call.is_transient(),
            _ => false,
        }
    }

    fn from_status(status: &Status, client: &Client) -> GroupError {
        let reason = status.message().to_owned();
        let exception = status.metadata().get(trailer::EXCEPTION);
        match exception.and_then(|value| value.to_str().ok()) {
            Some(trailer::PERSISTENT_SUBSCRIPTION_DOES_NOT_EXIST) => GroupError::Missing { reason },
            Some(trailer::PERSISTENT_SUBSCRIPTION_EXISTS) => GroupError::Exists { reason },
            Some(trailer::MAXIMUM_SUBSCRIBERS_REACHED) => GroupError::Full { reason },
            Some(trailer::PERSISTENT_SUBSCRIPTION_DROPPED) => GroupError::Dropped { reason },
            Some(trailer::PERSISTENT_SUBSCRIPTION_FAILED) => GroupError::Failed { reason },
            _ => GroupError::Call(client.call_error(status)),
        }
    }
}

/// The groups of a server. A clone is another handle.
#[derive(Clone, Debug)]
pub struct Persistent {
    client: Client,
}

impl Client {
    /// The groups of the server.
    #[must_use]
    pub fn persistent(&self) -> Persistent {
        Persistent { client: self.clone() }
    }
}

impl Persistent {
    /// Makes a group.
    ///
    /// # Errors
    /// [`GroupError::Exists`]; [`GroupError::Failed`] says what is wrong with the settings.
    pub async fn create(
        &self,
        group: &Group,
        settings: &GroupSettings,
        start: GroupStart,
    ) -> Result<(), GroupError> {
        self.create_filtered(group, settings, start, None).await
    }

    /// As [`Persistent::create`], of `$all` and for some of its events.
    ///
    /// # Errors
    /// As there.
    pub async fn create_filtered(
        &self,
        group: &Group,
        settings: &GroupSettings,
        start: GroupStart,
        filter: Option<&EventFilter>,
    ) -> Result<(), GroupError> {
        let options = Some(settings::options(group, settings, start, filter));
        let request = self.client.call(proto::CreateReq { options });
        self.calls().create(request).await.map_err(|status| self.error(&status))?;
        Ok(())
    }

    /// Changes a group's settings. Its consumers are dropped and come back; it goes on from its
    /// checkpoint, and keeps its filter.
    ///
    /// # Errors
    /// [`GroupError::Missing`]; [`GroupError::Failed`] says what is wrong with the settings.
    pub async fn update(
        &self,
        group: &Group,
        settings: &GroupSettings,
        start: GroupStart,
    ) -> Result<(), GroupError> {
        let options = Some(settings::options(group, settings, start, None));
        let request = self.client.call(proto::UpdateReq { options });
        self.calls().update(request).await.map_err(|status| self.error(&status))?;
        Ok(())
    }

    /// Deletes a group, its place and its parked messages.
    ///
    /// # Errors
    /// [`GroupError::Missing`]
    pub async fn delete(&self, group: &Group) -> Result<(), GroupError> {
        use proto::delete_req::{Options, options::StreamOption};
        let stream_option = Some(match &group.source {
            GroupSource::Stream(name) => StreamOption::StreamIdentifier(stream::to_proto(name)),
            GroupSource::All => StreamOption::All(Empty {}),
        });
        let options = Some(Options { stream_option, group_name: group.name.clone() });
        let request = self.client.call(proto::DeleteReq { options });
        self.calls().delete(request).await.map_err(|status| self.error(&status))?;
        Ok(())
    }

    /// How a group stands.
    ///
    /// # Errors
    /// [`GroupError::Missing`]
    pub async fn info(&self, group: &Group) -> Result<GroupInfo, GroupError> {
        use proto::get_info_req::{Options, options::StreamOption};
        let stream_option = Some(match &group.source {
            GroupSource::Stream(name) => StreamOption::StreamIdentifier(stream::to_proto(name)),
            GroupSource::All => StreamOption::All(Empty {}),
        });
        let options = Some(Options { stream_option, group_name: group.name.clone() });
        let request = self.client.call(proto::GetInfoReq { options });
        let answer = self.calls().get_info(request).await.map_err(|status| self.error(&status))?;
        settings::info(answer.into_inner().subscription_info.unwrap_or_default())
    }

    /// How all groups stand.
    ///
    /// # Errors
    /// [`GroupError::Call`]
    pub async fn list(&self) -> Result<Vec<GroupInfo>, GroupError> {
        use proto::list_req::{Options, options::ListOption};
        let list_option = Some(ListOption::ListAllSubscriptions(Empty {}));
        let options = Some(Options { list_option });
        let request = self.client.call(proto::ListReq { options });
        let answer = self.calls().list(request).await.map_err(|status| self.error(&status))?;
        answer.into_inner().subscriptions.into_iter().map(settings::info).collect()
    }

    /// Delivers a group's parked messages again, at most `limit` of them.
    ///
    /// # Errors
    /// [`GroupError::Missing`]
    pub async fn replay_parked(&self, group: &Group, limit: Option<u64>) -> Result<(), GroupError> {
        use proto::replay_parked_req::{
            Options,
            options::{StopAtOption, StreamOption},
        };
        let stream_option = Some(match &group.source {
            GroupSource::Stream(name) => StreamOption::StreamIdentifier(stream::to_proto(name)),
            GroupSource::All => StreamOption::All(Empty {}),
        });
        let stop_at_option = Some(match limit {
            Some(count) => StopAtOption::StopAt(i64::try_from(count).unwrap_or(i64::MAX)),
            None => StopAtOption::NoLimit(Empty {}),
        });
        let group_name = group.name.clone();
        let options = Some(Options { group_name, stream_option, stop_at_option });
        let request = self.client.call(proto::ReplayParkedReq { options });
        self.calls().replay_parked(request).await.map_err(|status| self.error(&status))?;
        Ok(())
    }

    /// Drops all consumers of all groups, which come back, and loads the groups anew.
    ///
    /// # Errors
    /// [`GroupError::Call`]
    pub async fn restart(&self) -> Result<(), GroupError> {
        let request = self.client.call(Empty {});
        self.calls().restart_subsystem(request).await.map_err(|status| self.error(&status))?;
        Ok(())
    }

    /// Consumes with a group; has at most `buffer_size` messages that it has not answered.
    ///
    /// # Errors
    /// [`GroupError::Missing`], [`GroupError::Full`]. Once it has begun, the consumer deals with
    /// lost connections itself.
    pub async fn consume(&self, group: &Group, buffer_size: u32) -> Result<Consumer, GroupError> {
        Consumer::open(self.client.clone(), group.clone(), buffer_size).await
    }

    fn calls(&self) -> PersistentSubscriptionsClient<Route> {
        calls(&self.client)
    }

    fn error(&self, status: &Status) -> GroupError {
        GroupError::from_status(status, &self.client)
    }
}

fn calls(client: &Client) -> PersistentSubscriptionsClient<Route> {
    PersistentSubscriptionsClient::new(client.channel()).max_decoding_message_size(ANSWER_SIZE_MAX)
}
