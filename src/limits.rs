//! Every bound of the engine in one place, each with its reason.

/// Changes in one push; the protocol's limit (docs/PROTOCOL.md).
pub const BATCH_CHANGES_MAX: usize = 100;
/// Bytes of records in one push: below the protocol's 1 MiB, so that the envelope fits too.
pub const BATCH_BYTES_MAX: usize = 900 * 1024;
/// Changes asked for in one pull; the protocol's limit.
pub const PAGE_CHANGES_MAX: usize = 1000;
/// Changes accepted in one answer. A backend of the app's own may ignore our limit, but an answer
/// without any bound would be taken into memory whole.
pub const PAGE_ACCEPTED_MAX: usize = 20_000;
/// Pushes in flight. Browsers open six connections to a host; one stays free for the pull, the
/// app's own requests and a stream.
pub const PUSHES_IN_FLIGHT_MAX: usize = 5;
/// Mutations marked as sent in one commit before their first request: one small write for every
/// ten batches.
pub const SENT_MARK_MAX: usize = 1000;
/// Facts in one log entry: large enough that a bulk write is a few values, small enough that one
/// value is read or compacted without being felt. A page and its checkpoint are one entry.
pub const ENTRY_FACTS_MAX: usize = PAGE_CHANGES_MAX + 1;
/// Facts of one kind that are read as one. In tests so few that small stories have some.
pub const RUN_MIN: usize = if cfg!(any(test, feature = "planted")) {
    2
} else {
    16
};
/// Log entries read at once; `reach.js` reads the first of them ahead. In tests so few that there is more than one page.
pub const READ_ENTRIES_MAX: u32 = if cfg!(any(test, feature = "planted")) {
    16
} else {
    256
};
/// Facts in one segment: small enough that one is written, read and fetched without being felt. In
/// tests so few that small stories have many segments, kept and rewritten.
pub const SEGMENT_FACTS_MAX: usize = if cfg!(any(test, feature = "planted")) {
    4
} else {
    500
};
/// Segments written in one transaction of a compaction.
pub const SEGMENTS_AT_ONCE: usize = 4;
/// Segments read at once while opening; `reach.js` reads the first of them ahead. In tests so few that there is more than one round.
pub const SEGMENTS_READ_AT_ONCE: usize = if cfg!(any(test, feature = "planted")) {
    4
} else {
    40
};
/// Default for what records in memory may weigh, in bytes, about.
pub const MEMORY_BYTES: f64 = 64.0 * 1024.0 * 1024.0;
/// Facts in the log that make a compaction worth its while.
pub const FOLD_FACTS_MIN: usize = 2_000;
/// Entries in the log that do: many small ones make opening slow.
pub const FOLD_ENTRIES_MIN: usize = 200;
/// Quiet time after a write before a compaction begins, so that it never competes with a burst.
pub const FOLD_QUIET_MS: f64 = 1_000.0;
/// Times that a quiet second is waited for: an app that always writes has none, and its log would grow
/// without end.
pub const FOLD_WAITS_MAX: u32 = 30;
/// Pause after a commit before the rescue copy is written: a burst becomes one batch, and it is
/// there within 100 ms.
pub const RESCUE_DELAY_MS: f64 = 40.0;
/// The longest that closing waits for the rescue copy.
pub const RESCUE_CLOSE_MS: f64 = 1_000.0;
/// Queued mutations that are handed to the rescue copy once more at each start, to be sure.
pub const RESCUE_AGAIN_MAX: usize = 2_000;
/// Mutations handed to the rescue copy at once: as many as are not felt.
pub const RESCUE_BATCH_MAX: usize = 1_000;
/// Mutations in one run of a rescue copy: as many as a line of it has.
pub const RESCUE_RUN_MAX: usize = 256;
/// Times a write is planned again because another tab was faster. Each time means that the other
/// tab made progress, so reaching this means many hundred writers.
pub const APPEND_RETRIES_MAX: u32 = 200;
/// Turns that a tab takes once it was overtaken, or another was, before it writes without again.
pub const TURNS: u32 = 4;
/// Groups of writes in one turn, if they follow on each other: to have a turn costs more than to write.
pub const TURN_GROUPS: u32 = 8;
/// Bytes of a key: it is repeated in mutations, references and URLs.
pub const KEY_BYTES_MAX: usize = 512;
/// Bytes of a collection's name, and of the names of app and user.
pub const NAME_BYTES_MAX: usize = 128;
/// Collections of one database.
pub const COLLECTIONS_MAX: usize = 256;
/// Characters of a backend's message that are kept with a mutation.
pub const MESSAGE_CHARS_MAX: usize = 500;
/// Conflicts that the app's function is asked about at once: so many that one that never answers holds
/// up nobody, and few enough that a long list is not all in memory twice.
pub const CONFLICTS_ASKED_MAX: usize = 100;
/// How long the app's function may think about a conflict, in steps while the page is awake.
pub const CONFLICT_STEPS_MAX: u32 = 30;
/// Such a step.
pub const CONFLICT_STEP_MS: f64 = 1_000.0;
/// Entries that the conflict log keeps; the oldest go first.
pub const CONFLICTS_KEPT_MAX: usize = 1000;

/// First pause after a failure, before jitter.
pub const BACKOFF_BASE_MS: f64 = 1_000.0;
/// Longest pause after failures.
pub const BACKOFF_CAP_MS: f64 = 300_000.0;
/// Longest `Retry-After` that is believed: an hour, so that a faulty proxy cannot stop us for days.
pub const RETRY_AFTER_MAX_MS: f64 = 3_600_000.0;
/// Quiet time after a local write before it is pushed, so that a burst travels together.
pub const QUIET_MS: f64 = 50.0;
/// Least time between two pulls that pokes ask for.
pub const POKE_GAP_MS: f64 = 500.0;
/// Pause before a creation is sent again whose record the backend has under another key, where changes
/// are queued that go first.
pub const MEETING_PAUSE_MS: f64 = 10_000.0;
/// How long after a pull from the beginning a record that it did not bring is only missed. A backend
/// holds back what was committed after a transaction that is still open; few stay open for so long.
pub const MISSED_MS: f64 = 60_000.0;
/// What a server can say the time is, ms: from 2020 to where clock readings end. Anything else is of another
/// unit, and would date changes so that they win or lose for ever.
pub const SERVER_MS: std::ops::RangeInclusive<f64> = 1_577_836_800_000.0..=crate::hlc::MS_MAX;
/// Default time between two pulls.
pub const INTERVAL_MS: f64 = 30_000.0;
/// A request without an answer is given up after this; `rest()` gives up earlier.
pub const REQUEST_TIMEOUT_MS: f64 = 60_000.0;
/// Times a lost connection is opened again, and a lost transaction repeated, for one call.
pub const REOPEN_MAX: u32 = 3;
/// Pulls that fail in a row before what was sent without an answer is sent again unasked: a backend
/// that cannot be pulled from must not keep it for ever.
pub const FAILED_PULLS_MAX: u32 = 8;
/// Default number of answers that blame a mutation as retryable before it is parked.
pub const ATTEMPTS_MAX: u32 = 3;
