-- 1. `heads` numbers each user's changes. `records` holds the newest state of each record and the
-- number of the change that made it. A tombstone has no data. `mutations` remembers each mutation's
-- first result; what a conflict answered is in `sync_conflicts`.

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE heads (
    user TEXT PRIMARY KEY,
    seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE records (
    user TEXT NOT NULL,
    type TEXT NOT NULL,
    id TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version > 0),
    seq INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    data TEXT,
    at TEXT NOT NULL,
    client TEXT NOT NULL,
    UNIQUE (user, type, id),
    CHECK (deleted = (data IS NULL))
) STRICT;
CREATE UNIQUE INDEX records_by_seq ON records (user, seq);

CREATE TABLE sync_conflicts (
    id INTEGER PRIMARY KEY,
    user TEXT NOT NULL,
    type TEXT NOT NULL,
    record TEXT NOT NULL,
    mutation TEXT NOT NULL,
    action TEXT NOT NULL,
    base_version INTEGER NOT NULL,
    server_version INTEGER NOT NULL,
    local TEXT,
    local_changed TEXT,
    local_at TEXT NOT NULL,
    remote TEXT,
    remote_at TEXT NOT NULL,
    client TEXT NOT NULL,
    detected_ms INTEGER NOT NULL,
    outcome TEXT NOT NULL
) STRICT;
CREATE INDEX sync_conflicts_by_outcome ON sync_conflicts (user, outcome);

CREATE TABLE mutations (
    user TEXT NOT NULL,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    record TEXT NOT NULL,
    status TEXT NOT NULL,
    version INTEGER,
    code TEXT,
    message TEXT,
    conflict INTEGER REFERENCES sync_conflicts (id),
    applied_ms INTEGER NOT NULL,
    PRIMARY KEY (user, id)
) STRICT, WITHOUT ROWID;
