//! What a group is set up with.

use std::time::Duration;

use super::Strategy;

/// Messages a group may hold that no consumer has been sent yet. Each holds its event, so it bounds
/// memory together with [`BUFFERED_SIZE_MAX`].
pub const BUFFER_MAX: usize = 10_000;
/// Bytes of the messages that a group holds, sent or not, before it takes in no more. One larger
/// message is held by itself.
pub const BUFFERED_SIZE_MAX: usize = 32 * 1024 * 1024;
/// Consumers of one group. Pinning looks at all of them when one comes or goes.
pub const CONSUMERS_MAX: usize = 1000;
/// Messages one consumer may have in flight.
pub const CONSUMER_BUFFER_MAX: usize = 10_000;
/// How long a group waits before it tries again what its host could not do: parking a message, or
/// writing a checkpoint. Long enough not to burden a full disk.
pub const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The settings of a group. The defaults are what clients send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How messages are spread over the consumers.
    pub strategy: Strategy,
    /// How long a consumer may have a message; for ever if none.
    pub message_timeout: Option<Duration>,
    /// How often a message is sent again before it is parked.
    pub max_retry_count: u32,
    /// How long after the last checkpoint the next is written; none: by count alone.
    pub checkpoint_after: Option<Duration>,
    /// Messages that must be settled before a checkpoint is written for its age.
    pub min_checkpoint_count: u32,
    /// Settled messages after which one is written at once.
    pub max_checkpoint_count: u32,
    /// Consumers at a time; [`CONSUMERS_MAX`] if none.
    pub max_subscriber_count: Option<u32>,
    /// Messages held before they are sent, once the group has caught up.
    pub live_buffer_size: u32,
    /// Messages taken in at a time from history.
    pub read_batch_size: u32,
    /// Messages held before they are sent, while the group catches up.
    pub history_buffer_size: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            strategy: Strategy::RoundRobin,
            message_timeout: Some(Duration::from_secs(30)),
            max_retry_count: 10,
            checkpoint_after: Some(Duration::from_secs(2)),
            min_checkpoint_count: 10,
            max_checkpoint_count: 1000,
            max_subscriber_count: None,
            live_buffer_size: 500,
            read_batch_size: 20,
            history_buffer_size: 500,
        }
    }
}

/// Why settings cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSettings {
    /// A batch must fit into the buffer.
    #[error("history_buffer_size ({buffer}) must be greater than read_batch_size ({batch})")]
    BatchTooLarge {
        /// `history_buffer_size`.
        buffer: u32,
        /// `read_batch_size`.
        batch: u32,
    },
    /// A number is out of its range.
    #[error("{field} is {value}; it must be between {least} and {most}")]
    OutOfRange {
        /// Which.
        field: &'static str,
        /// What it is.
        value: u64,
        /// The least it may be.
        least: u64,
        /// The most it may be.
        most: u64,
    },
    /// The checkpoint counts contradict each other.
    #[error("min_checkpoint_count ({min}) must not be greater than max_checkpoint_count ({max})")]
    CheckpointCounts {
        /// `min_checkpoint_count`.
        min: u32,
        /// `max_checkpoint_count`.
        max: u32,
    },
}

impl Settings {
    /// Checks that a group can work with them.
    ///
    /// # Errors
    /// [`InvalidSettings`] names the setting and its limits.
    pub fn check(&self) -> Result<(), InvalidSettings> {
        let most = BUFFER_MAX as u64;
        let within = |field, value: u32, least: u64| {
            let value = u64::from(value);
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(InvalidSettings::OutOfRange { field, value, least, most })
        };
        within("live_buffer_size", self.live_buffer_size, 1)?;
        within("read_batch_size", self.read_batch_size, 1)?;
        within("history_buffer_size", self.history_buffer_size, 1)?;
        if self.history_buffer_size <= self.read_batch_size {
            let (buffer, batch) = (self.history_buffer_size, self.read_batch_size);
            return Err(InvalidSettings::BatchTooLarge { buffer, batch });
        }
        if self.min_checkpoint_count > self.max_checkpoint_count {
            let (min, max) = (self.min_checkpoint_count, self.max_checkpoint_count);
            return Err(InvalidSettings::CheckpointCounts { min, max });
        }
        Ok(())
    }

    /// Consumers at a time.
    #[must_use]
    pub fn consumers_max(&self) -> usize {
        let limit = self.max_subscriber_count.map_or(CONSUMERS_MAX, |limit| limit as usize);
        limit.min(CONSUMERS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_contradict_themselves_are_refused() {
        let good = Settings::default();
        assert_eq!(good.check(), Ok(()));
        for bad in [
            Settings { read_batch_size: 500, ..good.clone() },
            Settings { read_batch_size: 0, ..good.clone() },
            Settings { live_buffer_size: 0, ..good.clone() },
            Settings { history_buffer_size: BUFFER_MAX as u32 + 1, ..good.clone() },
            Settings { min_checkpoint_count: 11, max_checkpoint_count: 10, ..good.clone() },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
        assert_eq!(good.consumers_max(), CONSUMERS_MAX);
        let few = Settings { max_subscriber_count: Some(2), ..good };
        assert_eq!(few.consumers_max(), 2);
    }
}
