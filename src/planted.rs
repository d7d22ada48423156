//! Bugs on purpose, for the simulation to find: it has to earn the trust that it gets.
//!
//! Each is one line at the place where such a bug would be, behind [`is`]. Without the feature
//! `planted`, which only the simulation is built with, [`is`] is always false and nothing of it is
//! in the code. `cargo xtask sim --planted` tells how many seeds it takes to find each.

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A write is acknowledged before its transaction has ended.
    AckBeforeCommit,
    /// A page's checkpoint is stored in a transaction of its own, before the page.
    CheckpointBeforeRows,
    /// What is sent again has another id.
    RetryWithANewId,
    /// A page replaces a pending change.
    PullOverPending,
    /// A delete on top of a queued update leaves nothing.
    LostDelete,
    /// What is in flight is rewritten.
    CoalescingAcrossInFlight,
    /// No network is the mutation's fault.
    AttemptsCountedOffline,
    /// Changes are dated by the device's clock as it stands.
    RawClientClock,
    /// A tab that loses the lead goes on sending.
    DoubleLeader,
    /// A record gets another key, and what refers to it keeps the old one.
    ReKeyWithoutReferences,
    /// A transaction is stored though what it has read was changed.
    TransactionOnStaleReads,
    /// A conflict that was settled for the device is settled for the server.
    ResolvedTheOtherWay,
    /// A batch for the rescue copy of a session that never rested says what an empty copy says.
    CopyThatSaysEmpty,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::AckBeforeCommit,
        Self::CheckpointBeforeRows,
        Self::RetryWithANewId,
        Self::PullOverPending,
        Self::LostDelete,
        Self::CoalescingAcrossInFlight,
        Self::AttemptsCountedOffline,
        Self::RawClientClock,
        Self::DoubleLeader,
        Self::ReKeyWithoutReferences,
        Self::TransactionOnStaleReads,
        Self::ResolvedTheOtherWay,
        Self::CopyThatSaysEmpty,
    ];
}

#[cfg(feature = "planted")]
mod switch {
    use super::Bug;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants a bug in this thread; none: takes it out.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// Whether this bug is there.
    #[must_use]
    pub fn is(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(feature = "planted")]
pub use switch::{is, plant};

/// Whether this bug is there: never.
#[cfg(not(feature = "planted"))]
#[must_use]
#[inline]
pub const fn is(_bug: Bug) -> bool {
    false
}
