-- 3. Media: a row for each file, and one for each of its pieces. `media_removed` holds the numbers of
-- files that are gone and whose pieces are not. AUTOINCREMENT: a number is never given again, also
-- after its row is gone.

CREATE TABLE media (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    space TEXT NOT NULL,
    id TEXT NOT NULL,
    owner TEXT NOT NULL,
    content_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    received INTEGER NOT NULL CHECK (received <= size),
    complete INTEGER NOT NULL CHECK (NOT complete OR received = size),
    cost INTEGER NOT NULL,
    touched_ms INTEGER NOT NULL,
    UNIQUE (space, id)
) STRICT;
CREATE INDEX media_by_owner ON media (owner, cost);
CREATE INDEX media_unfinished ON media (touched_ms) WHERE NOT complete;

CREATE TABLE media_pieces (
    media INTEGER NOT NULL,
    piece INTEGER NOT NULL,
    data BLOB NOT NULL,
    UNIQUE (media, piece)
) STRICT;

CREATE TABLE media_removed (
    media INTEGER PRIMARY KEY
) STRICT;
