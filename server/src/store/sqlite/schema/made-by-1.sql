-- What a server with schema 1 has written: a dump of its database.

BEGIN TRANSACTION;
CREATE TABLE meta (
        key TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES('database-id','08a047dc6d20242feac20d2c0f4a7f33');
CREATE TABLE heads (
        user TEXT PRIMARY KEY,
        seq INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
INSERT INTO heads VALUES('ann',5);
INSERT INTO heads VALUES('u:ann',1);
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
INSERT INTO records VALUES('ann','sites','a',2,3,0,'{"n": 3}','1763690000000-0000-c1','c1');
INSERT INTO records VALUES('ann','sites','b',2,4,1,NULL,'1763690000000-0000-c1','c1');
INSERT INTO records VALUES('ann','sites','c',1,5,0,'{"n": 1.5}','1763690000000-0000-c1','c1');
INSERT INTO records VALUES('u:ann','sites','a',1,1,0,'{"whose": "u:ann"}','1763690000000-0000-c1','c1');
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
INSERT INTO sync_conflicts VALUES(1,'ann','sites','a','m4','update',1,2,'{"n": 4}',NULL,'1763690000000-0000-c1','{"n": 3}','1763690000000-0000-c1','c1',1795268964314,'open');
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
INSERT INTO mutations VALUES('ann','m1','sites','a','success',1,NULL,NULL,NULL,1795268964291);
INSERT INTO mutations VALUES('ann','m2','sites','b','success',1,NULL,NULL,NULL,1795268964291);
INSERT INTO mutations VALUES('ann','m3','sites','a','success',2,NULL,NULL,NULL,1795268964291);
INSERT INTO mutations VALUES('ann','m4','sites','a','conflict',NULL,NULL,NULL,1,1795268964314);
INSERT INTO mutations VALUES('ann','m5','sites','b','success',2,NULL,NULL,NULL,1795268964314);
INSERT INTO mutations VALUES('ann','m6','sites','missing','failed',NULL,'not-found','the record does not exist',NULL,1795268964314);
INSERT INTO mutations VALUES('ann','m7','sites','c','success',1,NULL,NULL,NULL,1795268964314);
INSERT INTO mutations VALUES('u:ann','m1','sites','a','success',1,NULL,NULL,NULL,1795268964322);
CREATE UNIQUE INDEX records_by_seq ON records (user, seq);
CREATE INDEX sync_conflicts_by_outcome ON sync_conflicts (user, outcome);
COMMIT;
PRAGMA application_id = 1280197702;
PRAGMA user_version = 1;
