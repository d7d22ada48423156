-- 2. Media, as in SQLite.

CREATE TABLE media (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    space TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    owner TEXT COLLATE "C" NOT NULL,
    content_type TEXT NOT NULL,
    size BIGINT NOT NULL,
    sha256 BYTEA NOT NULL,
    received BIGINT NOT NULL CHECK (received <= size),
    complete BOOLEAN NOT NULL CHECK (NOT complete OR received = size),
    cost BIGINT NOT NULL,
    touched_ms BIGINT NOT NULL,
    UNIQUE (space, id)
);
CREATE INDEX media_by_owner ON media (owner);
CREATE INDEX media_unfinished ON media (touched_ms) WHERE NOT complete;

CREATE TABLE media_pieces (
    media BIGINT NOT NULL,
    piece BIGINT NOT NULL,
    data BYTEA NOT NULL,
    PRIMARY KEY (media, piece)
);

CREATE TABLE media_removed (
    media BIGINT PRIMARY KEY
);
