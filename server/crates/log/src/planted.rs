//! Bugs planted on purpose, so that the simulation can show that it finds them.
//!
//! Without the feature `planted-bugs` every question here is answered `false` by the compiler and
//! no trace is left in the binary. With it, one bug at a time is chosen for the calling thread.

/// A bug that someone could make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each name says what is done wrong")]
pub enum Bug {
    AnswerBeforeSync,
    SyncSkipped,
    NamesNotSynced,
    FailedSyncRetried,
    SpareNotSynced,
    TornTailNotZeroed,
    UnprovenTailNotRewritten,
    DamageTakenForTornTail,
    BodyChecksumIgnored,
    ChecksumWithoutPlace,
    SealSkipped,
    PublishBeforeIndex,
    PublishBeforeSync,
    RejectionNotAwaited,
    OverlayForgotten,
    IdWindowLostOnRestart,
    IdsNotCompared,
    RevisionReused,
    SecondStreamUnchecked,
    PostingSkippedAtSeal,
    StaleIndexBelieved,
    FeedSkipsAtRoll,
    FeedRepeatsAtRoll,
    ReaderSeesUncommitted,
    TombstoneForgotten,
    ConditionAlwaysHolds,
    ChainNotLinked,
    ClockGoesBack,
    NameNotSyncedAtStart,
    TailRewrittenWithoutCopy,
    EndMarkNotRewritten,
    EmptySegmentNotReplaced,
    ReaderBeyondItsEnd,
    FeedFromEndForgets,
    TombstoneOpensAgain,
    MetadataAfterTombstone,
    NewestGenerationBelieved,
    RewriteNotSynced,
    RewriteNotReadBack,
    RewriteChainNotKept,
    OldGenerationRemovedEarly,
    KeptEventRemoved,
    NewestSettingsRemoved,
    TombstoneRemoved,
    RemovedKeysForgotten,
    RemovedIdForgotten,
    IndexOfOldGeneration,
    HoleEndsRead,
    DraftNotTakenBack,
    RemovedBirthHidden,
    DamageEndsScavenge,
}

/// All of them.
#[cfg(feature = "planted-bugs")]
pub const ALL: [Bug; 51] = [
    Bug::AnswerBeforeSync,
    Bug::SyncSkipped,
    Bug::NamesNotSynced,
    Bug::FailedSyncRetried,
    Bug::SpareNotSynced,
    Bug::TornTailNotZeroed,
    Bug::UnprovenTailNotRewritten,
    Bug::DamageTakenForTornTail,
    Bug::BodyChecksumIgnored,
    Bug::ChecksumWithoutPlace,
    Bug::SealSkipped,
    Bug::PublishBeforeIndex,
    Bug::PublishBeforeSync,
    Bug::RejectionNotAwaited,
    Bug::OverlayForgotten,
    Bug::IdWindowLostOnRestart,
    Bug::IdsNotCompared,
    Bug::RevisionReused,
    Bug::SecondStreamUnchecked,
    Bug::PostingSkippedAtSeal,
    Bug::StaleIndexBelieved,
    Bug::FeedSkipsAtRoll,
    Bug::FeedRepeatsAtRoll,
    Bug::ReaderSeesUncommitted,
    Bug::TombstoneForgotten,
    Bug::ConditionAlwaysHolds,
    Bug::ChainNotLinked,
    Bug::ClockGoesBack,
    Bug::NameNotSyncedAtStart,
    Bug::TailRewrittenWithoutCopy,
    Bug::EndMarkNotRewritten,
    Bug::EmptySegmentNotReplaced,
    Bug::ReaderBeyondItsEnd,
    Bug::FeedFromEndForgets,
    Bug::TombstoneOpensAgain,
    Bug::MetadataAfterTombstone,
    Bug::NewestGenerationBelieved,
    Bug::RewriteNotSynced,
    Bug::RewriteNotReadBack,
    Bug::RewriteChainNotKept,
    Bug::OldGenerationRemovedEarly,
    Bug::KeptEventRemoved,
    Bug::NewestSettingsRemoved,
    Bug::TombstoneRemoved,
    Bug::RemovedKeysForgotten,
    Bug::RemovedIdForgotten,
    Bug::IndexOfOldGeneration,
    Bug::HoleEndsRead,
    Bug::DraftNotTakenBack,
    Bug::RemovedBirthHidden,
    Bug::DamageEndsScavenge,
];

#[cfg(feature = "planted-bugs")]
thread_local! {
    static CHOSEN: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Plants `bug` in the calling thread, instead of the one before.
#[cfg(feature = "planted-bugs")]
pub fn plant(bug: Option<Bug>) {
    CHOSEN.with(|chosen| chosen.set(bug));
}

/// Whether `bug` is planted.
#[cfg(feature = "planted-bugs")]
#[must_use]
pub fn is(bug: Bug) -> bool {
    CHOSEN.with(|chosen| chosen.get() == Some(bug))
}

/// Whether `bug` is planted.
#[cfg(not(feature = "planted-bugs"))]
#[must_use]
#[inline(always)]
pub const fn is(_bug: Bug) -> bool {
    false
}
