//! Why something was not done for a group.

use super::key::GroupKey;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// There is no such group.
    #[error("Subscription group {} on stream {} does not exist.", .0.group, .0.source.name())]
    Missing(GroupKey),
    /// There is such a group already.
    #[error("Subscription group {} on stream {} exists.", .0.group, .0.source.name())]
    Exists(GroupKey),
    /// It cannot be done as it was asked for, or not now.
    #[error("Subscription group {} on stream {} failed: '{reason}'", .key.group, .key.source.name())]
    Failed {
        /// Which group.
        key: GroupKey,
        /// Why, and what to do.
        reason: String,
    },
    /// It has as many consumers as it may.
    #[error(
        "Maximum subscriptions reached for subscription group {} on stream {}.",
        .0.group, .0.source.name()
    )]
    Full(GroupKey),
    /// The group has let go of a consumer, which may come again.
    #[error("Subscription group {} on stream {} was dropped.", .0.group, .0.source.name())]
    Dropped(GroupKey),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

impl GroupError {
    /// It failed, because of `reason`.
    pub fn failed(key: &GroupKey, reason: impl std::fmt::Display) -> GroupError {
        GroupError::Failed { key: key.clone(), reason: reason.to_string() }
    }
}
