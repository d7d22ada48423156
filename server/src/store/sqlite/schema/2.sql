-- 2. Spaces: what was a user's is in the user's own space (`u:ann`); entities have spaces as well
-- (`e:site-1`). A record's id is unique in its realm: the user for private types, '' for shared
-- ones. `heads` numbers each space's changes; `floor` is the position of the newest tombstone that
-- was purged. `departures` tells those who see only the old space that a record has moved to
-- another. Times by the server's clock say what is old enough to be purged.

CREATE TABLE spaces (
    space TEXT PRIMARY KEY,
    seq INTEGER NOT NULL,
    floor INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
INSERT INTO spaces (space, seq) SELECT 'u:' || user, seq FROM heads;
DROP TABLE heads;
ALTER TABLE spaces RENAME TO heads;

ALTER TABLE records RENAME COLUMN user TO realm;
ALTER TABLE records ADD COLUMN space TEXT NOT NULL DEFAULT '';
ALTER TABLE records ADD COLUMN changed_ms INTEGER NOT NULL DEFAULT 0;
UPDATE records SET space = 'u:' || realm, changed_ms = unixepoch() * 1000;
DROP INDEX records_by_seq;
CREATE UNIQUE INDEX records_by_seq ON records (space, seq);
CREATE INDEX tombstones_by_age ON records (changed_ms) WHERE deleted = 1;

CREATE TABLE departures (
    space TEXT NOT NULL,
    type TEXT NOT NULL,
    id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    version INTEGER NOT NULL,
    at TEXT NOT NULL,
    changed_ms INTEGER NOT NULL,
    PRIMARY KEY (space, type, id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX departures_by_seq ON departures (space, seq);
CREATE INDEX departures_by_age ON departures (changed_ms);

-- The newest version of all purged tombstones of a realm. A record that comes to be goes on from
-- there: where a client still holds the tombstone of its id, only a newer version counts.
CREATE TABLE purged (
    realm TEXT PRIMARY KEY,
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE sync_conflicts ADD COLUMN space TEXT NOT NULL DEFAULT '';
ALTER TABLE sync_conflicts ADD COLUMN settled_ms INTEGER;
ALTER TABLE sync_conflicts ADD COLUMN settled_version INTEGER;
ALTER TABLE sync_conflicts ADD COLUMN merged TEXT;
UPDATE sync_conflicts SET space = 'u:' || user;
CREATE INDEX sync_conflicts_by_user ON sync_conflicts (user);
CREATE INDEX open_conflicts_by_record ON sync_conflicts (user, type, record)
    WHERE outcome = 'open';
CREATE INDEX settled_conflicts_by_age ON sync_conflicts (settled_ms)
    WHERE settled_ms IS NOT NULL;

CREATE INDEX mutations_by_age ON mutations (applied_ms);
CREATE INDEX mutations_by_conflict ON mutations (conflict) WHERE conflict IS NOT NULL;

CREATE TABLE assignments (
    user TEXT NOT NULL,
    entity TEXT NOT NULL,
    PRIMARY KEY (user, entity)
) STRICT, WITHOUT ROWID;
