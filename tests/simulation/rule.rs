//! The model server's rule: what docs/PROTOCOL.md says of one change to one record. It knows
//! nothing of landfall, so that the reference server's tests can hold it against the real rule.

/// What a change wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Create,
    Update,
    Delete,
}

/// A record as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) version: u64,
    /// Not a tombstone.
    pub(crate) live: bool,
    /// Its last change was made by the client that asks.
    pub(crate) own: bool,
}

/// What becomes of the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// It takes effect; the record has this version then.
    Write(u64),
    /// It is so already.
    Nothing(u64),
    /// It was made on another version.
    Conflict,
    /// There is no such record.
    NotFound,
}

/// Decides a change that was made on `base`.
pub(crate) fn rule(wish: Wish, base: u64, there: Option<Standing>) -> Ruling {
    match (wish, there) {
        (Wish::Create, None) => Ruling::Write(base + 1),
        (Wish::Create, Some(r)) => {
            let revives = !r.live && ((base == 0 && r.own) || base == r.version);
            if revives {
                Ruling::Write(r.version + 1)
            } else {
                Ruling::Conflict
            }
        }
        (Wish::Update, None) => Ruling::NotFound,
        (Wish::Delete, None) => Ruling::Nothing(0),
        (Wish::Delete, Some(r)) if !r.live => Ruling::Nothing(r.version),
        (_, Some(r)) if !r.live || r.version != base => Ruling::Conflict,
        (_, Some(r)) => Ruling::Write(r.version + 1),
    }
}
