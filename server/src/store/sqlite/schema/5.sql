-- 5. A conflict's id is never given again, also after it was purged.

CREATE TABLE conflict_ids (
    newest INTEGER NOT NULL
) STRICT;
INSERT INTO conflict_ids SELECT coalesce(max(id), 0) FROM sync_conflicts;
