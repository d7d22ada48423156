//! Errors, as the app sees them.
//!
//! Every error has a stable code; the code decides the hint and whether trying again can help.
//! `docs/ERRORS.md` lists the same table for people, and a test keeps the two equal.

/// An error with a stable code and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What kind of error; apps branch on it.
    pub code: Code,
    /// What happened, for people.
    pub message: String,
}

impl Error {
    /// An error of this code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $text:literal $retryable:literal $hint:literal;)*) => {
        /// The stable codes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// All codes, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code as apps see it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What to do next.
            #[must_use]
            pub fn hint(self) -> &'static str {
                match self { $(Self::$name => $hint,)* }
            }

            /// Whether the same call may succeed later without any change.
            #[must_use]
            pub fn is_retryable(self) -> bool {
                match self { $(Self::$name => $retryable,)* }
            }
        }
    };
}

codes! {
    /// Options or a query that cannot work.
    InvalidOptions "invalid-options" false "Correct the options or the query; the message names the field.";
    /// The record is not a plain JSON object.
    InvalidRecord "invalid-record" false "Store plain objects of JSON values; the message names the path.";
    /// The key is missing, empty, too long or not a string.
    InvalidKey "invalid-key" false "Give every record a string key of 1 to 512 bytes, for example crypto.randomUUID().";
    /// The value holds something that cannot be copied, such as a function.
    NotCloneable "not-cloneable" false "Remove functions, symbols, cycles and class instances; the message names the path.";
    /// `create` for a key that is taken.
    AlreadyExists "already-exists" false "Use put() to replace or update() to change the record.";
    /// There is no such record, mutation or conflict.
    NotFound "not-found" false "It may have been deleted or confirmed meanwhile; read it again.";
    /// The collection was not declared in `open`.
    UnknownCollection "unknown-collection" false "Declare the collection in the options of open().";
    /// The index was not declared in `open`.
    UnknownIndex "unknown-index" false "Declare the index in the collection's indexes.";
    /// No IndexedDB here.
    UnsupportedEnvironment "unsupported-environment" false "IndexedDB is switched off or missing (private mode, embedded view); open the app in a normal window.";
    /// The database was written by a newer landfall.
    DatabaseNewer "database-newer" false "Reload the page to get the app's current version; nothing was changed.";
    /// Another tab keeps an older database open.
    DatabaseBlocked "database-blocked" true "Close or reload the app's other tabs.";
    /// The browser closed the database under us.
    DatabaseLost "database-lost" true "The connection is opened again by itself; if it stays, reload the page.";
    /// An entry of the database could not be read; it was set aside.
    DatabaseDamaged "database-damaged" false "What is damaged is set aside and the rest is whole; export what is unsynced and report it.";
    /// No room on the disk or for this origin.
    QuotaExceeded "quota-exceeded" true "Free some space on the device; what was stored before is safe, this write was not stored.";
    /// IndexedDB failed in another way.
    StorageFailed "storage-failed" true "Try again; if it stays, reload the page.";
    /// The rescue copy cannot be read or written.
    RescueFailed "rescue-failed" true "The database itself is not concerned; the copy is tried again by itself. Free some space on the device if it stays.";
    /// Many tabs write at once.
    WriteContention "write-contention" true "Try again when other tabs are quieter.";
    /// The manager was closed, or the transaction is over.
    Closed "closed" false "Call open() again; of a transaction, begin another one.";
    /// What was waited for was given up: by its signal, by `outbox.discard`, or as syncing is paused.
    Aborted "aborted" true "The message says what was given up; do it again if you still want it.";
    /// The server did not answer in time.
    Timeout "timeout" true "It is tried again by itself; check the connection if it stays.";
    /// The device is offline.
    Offline "offline" true "Changes are kept and sent when the network returns.";
    /// The server could not be reached.
    Network "network" true "It is tried again by itself; check the server's address if it stays.";
    /// The server answered with a fault of its own.
    ServerError "server-error" true "It is tried again by itself; the server's log tells more.";
    /// The server asked for a pause.
    Throttled "throttled" true "Sending goes on by itself after the pause.";
    /// The credentials were refused twice.
    NeedsAuth "needs-auth" false "Sign in again, then call resume(); everything queued is kept.";
    /// The server refuses a change for good; it is parked.
    Rejected "rejected" false "Look at the outbox: change the record, retry or discard the entry.";
    /// A conflict was settled against a change that waited for its confirmation.
    Conflict "conflict" false "Look at conflicts.list(); write again on top of the record as it is now.";
    /// The app's conflict handler threw, took too long, or answered something else.
    ConflictHandler "conflict-handler" false "Mend the handler, then outbox.retry(id), or settle it with conflicts.resolve(id, …); nothing was lost.";
    /// The app's conflict handler answered "park".
    ConflictParked "conflict-parked" false "Settle it with conflicts.resolve(id, …), or have the handler asked again with outbox.retry(id).";
    /// `signOut` while something is not synced.
    Unsynced "unsynced" false "Sync first, or keep a backup with exportUnsynced(); signOut({ discard: true }) gives the changes up.";
    /// The app's `migrate` threw, or made something that cannot be stored.
    MigrationFailed "migration-failed" false "Mend migrate() for the record that the message names; nothing was changed.";
    /// The answer was not what the protocol says.
    ProtocolError "protocol-error" true "Nothing was marked as done; check that the URL is the sync endpoint and no proxy answers in its place.";
    /// The WebAssembly module could not be loaded.
    WasmFailed "wasm-failed" true "Check that the .wasm file is served, or pass its URL as the wasm option.";
}

/// The result of most calls.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(all(test, not(target_family = "wasm")))]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::Code;

    /// The cells of a table's rows that begin with a code.
    fn rows(table: &'static str) -> Vec<Vec<&'static str>> {
        let rows = table.lines().filter(|line| line.starts_with("| `"));
        rows.map(|row| {
            let cells = row.trim_matches('|').split(" | ");
            cells.map(str::trim).collect()
        })
        .collect()
    }

    /// What is said of each code in this file: the first line of its documentation.
    fn meaning(code: Code) -> String {
        let source = include_str!("error.rs");
        let name = format!("    {code:?} \"{}\"", code.as_str());
        let lines: Vec<&str> = source.lines().collect();
        let at = lines.iter().position(|l| l.starts_with(&name)).unwrap();
        lines[at - 1].trim().trim_start_matches("/// ").to_owned()
    }

    #[test]
    fn documentation_lists_every_code_and_no_other() {
        let table = rows(include_str!("../docs/ERRORS.md"));
        let listed: Vec<&str> = table.iter().map(|row| row[0].trim_matches('`')).collect();
        let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(listed, codes, "docs/ERRORS.md, in the order of this file");
        for (row, code) in table.iter().zip(Code::ALL) {
            let retry = if code.is_retryable() { "yes" } else { "no" };
            let meaning = meaning(*code);
            let said = [meaning.as_str(), retry, code.hint()];
            assert_eq!(row[1..4], said, "docs/ERRORS.md: {}", row[0]);
            assert!(row[4].len() > 10, "{}: what can an app do?", row[0]);
        }
    }

    #[test]
    fn types_list_every_code_and_no_other() {
        let types = include_str!("../npm/index.d.ts");
        let union = types.split("export type ErrorCode =").nth(1).unwrap();
        let union = union.split(';').next().unwrap();
        let listed: Vec<&str> = union.split('"').skip(1).step_by(2).collect();
        let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(listed, codes, "ErrorCode in npm/index.d.ts");
    }

    /// The loader makes some errors itself: in the same words.
    #[test]
    fn the_loader_says_the_same() {
        let loader = include_str!("../npm/errors.js").split_whitespace();
        let loader = loader.collect::<Vec<_>>().join(" ");
        let hints = loader.split("const HINTS = {").nth(1).unwrap();
        let hints = hints.split("}; const RETRYABLE = [");
        let parts: Vec<&str> = hints.take(2).collect();
        let retryable = parts[1].split(']').next().unwrap();
        for entry in parts[0].split("\",").filter(|entry| entry.contains(": ")) {
            let (name, hint) = entry.split_once(": \"").unwrap();
            let name = name.trim().trim_matches('"');
            let code = Code::ALL.iter().find(|code| code.as_str() == name);
            let code = code.unwrap_or_else(|| panic!("there is no code {name}"));
            assert_eq!(hint, code.hint(), "npm/errors.js: {name}");
            let again = retryable.contains(&format!("\"{name}\""));
            assert_eq!(again, code.is_retryable(), "npm/errors.js: {name}");
        }
    }
}
