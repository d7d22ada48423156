-- 3. Conflicts that nobody settles are purged as well, later than the rest: found by their age.

CREATE INDEX open_conflicts_by_age ON sync_conflicts (detected_ms)
    WHERE outcome = 'open';
