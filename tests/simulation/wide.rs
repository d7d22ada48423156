//! Wide stories: what an app's user does beside writing, and what a device can lose.
//!
//! They are drawn like the others and then get further steps, from a stream of chance of their own.
//! Each has a few themes; what a theme needs (records that several devices write, conflicts) comes
//! with it.

use super::chance::Chance;
use super::plan::{Act, Do, Key, Plan, Then};
use landfall::options::Strategy;

/// What the story's devices are like.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Wide {
    /// Conflicts that wait for a person wait for ever.
    pub(crate) never: bool,
    /// The server applies the changes of a group together or not at all.
    pub(crate) atomic: bool,
    /// Devices keep a rescue copy.
    pub(crate) rescue: bool,
    /// What is not flushed can be lost.
    pub(crate) power: bool,
    /// Durability is strict.
    pub(crate) strict: bool,
}

/// How a conflict is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pick {
    Local,
    Remote,
    /// A record that is neither side.
    Own,
    Gone,
}

impl Pick {
    pub(crate) fn draw(chance: &Chance) -> Self {
        [
            Self::Local,
            Self::Local,
            Self::Remote,
            Self::Own,
            Self::Gone,
        ][chance.index(5)]
    }
}

/// The further steps. Device and tab come first; a number picks from a list, counted round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum More {
    /// Settles a conflict that waits, or one of the log once more.
    Resolve(usize, usize, usize, Pick),
    /// Sends one that is parked, or waits, again.
    RetryOne(usize, usize, usize),
    /// Gives one up.
    DiscardOne(usize, usize, usize),
    /// Changes a field of what is queued.
    Edit(usize, usize, usize, &'static str),
    /// Reads a site and writes a note, or (`same`) the site itself, only if nobody was faster.
    Reads(usize, usize, Key, Key, bool),
    /// The browser throws the database away.
    Wipe(usize),
    /// With a backup or not.
    SignOut(usize, bool),
    Export(usize, usize),
    Import(usize, usize, usize),
    PowerLoss(usize),
    /// A tab with a newer version of the app is opened.
    Newer(usize),
}

const THEMES: u64 = 7;
const CONFLICTS: u64 = 0;
const QUEUE: u64 = 1;
const READS: u64 = 2;
const RESCUE: u64 = 3;
const BACKUP: u64 = 4;
const POWER: u64 = 5;
const SCHEMA: u64 = 6;

struct Draw {
    chance: Chance,
    clients: usize,
    themes: u64,
}

impl Draw {
    fn has(&self, theme: u64) -> bool {
        self.themes & (1 << theme) != 0
    }

    fn key(&self) -> Key {
        let n = self.chance.below(3) as u8;
        match self.chance.below(3) {
            0 => Key::Shared(n),
            _ => Key::Own(n),
        }
    }

    fn field(&self) -> &'static str {
        ["a", "b"][self.chance.index(2)]
    }

    /// What leads to conflicts: writes to what others write as well.
    fn shared(&self, c: usize, t: usize) -> Act {
        let n = self.chance.below(2) as u8;
        if self.chance.percent(35) {
            return Act::Elsewhere(c, n, self.chance.percent(20), 0);
        }
        let what = match self.chance.below(8) {
            0..=1 => Do::Put,
            2 => Do::Delete,
            3 => Do::Create,
            _ => Do::Update(self.field()),
        };
        let collection = ["sites", "sites", "notes", "blocks"][self.chance.index(4)];
        Act::Write(c, t, collection, Key::Shared(n), what)
    }

    fn act(&self) -> Option<Act> {
        let chance = &self.chance;
        let (c, t) = (chance.index(self.clients), chance.index(3));
        let theme = chance.below(THEMES);
        if !self.has(theme) {
            return None;
        }
        Some(match theme {
            CONFLICTS if chance.percent(55) => self.shared(c, t),
            CONFLICTS => Act::More(More::Resolve(c, t, chance.index(4), Pick::draw(chance))),
            QUEUE => Act::More(match chance.below(4) {
                0 => More::RetryOne(c, t, chance.index(4)),
                1 => More::DiscardOne(c, t, chance.index(4)),
                _ => More::Edit(c, t, chance.index(4), self.field()),
            }),
            READS => Act::More(More::Reads(
                c,
                t,
                self.key(),
                self.key(),
                chance.percent(50),
            )),
            // Rarely: what is lost has to be there first.
            RESCUE if chance.percent(25) => Act::More(More::Wipe(c)),
            BACKUP => Act::More(match chance.below(7) {
                0 => More::SignOut(c, true),
                1 if chance.percent(30) => More::SignOut(c, false),
                1..=3 => More::Export(c, t),
                _ => More::Import(c, t, chance.index(3)),
            }),
            POWER if chance.percent(25) => Act::More(More::PowerLoss(c)),
            SCHEMA if chance.percent(25) => Act::More(More::Newer(c)),
            RESCUE | POWER | SCHEMA if chance.percent(50) => Act::Open(c),
            _ => return None,
        })
    }

    fn then(&self) -> Then {
        match self.chance.below(10) {
            0..=2 => Then::Polls(0),
            3..=5 => Then::Polls(1 + self.chance.below(14) as u32),
            6..=8 => Then::Ms(1 + self.chance.below(300)),
            _ => Then::Ms(2_000),
        }
    }
}

/// Makes a plan wide.
pub(crate) fn widen(plan: &mut Plan) {
    let chance = Chance::new(plan.seed ^ 0x5749_4445);
    let themes = 1 << chance.below(THEMES) | 1 << chance.below(THEMES);
    let draw = Draw {
        chance: chance.clone(),
        clients: plan.users.len(),
        themes,
    };
    if draw.has(CONFLICTS) {
        let chosen = || match chance.below(5) {
            0..=1 => Some(Strategy::Manual),
            2..=3 => Some(Strategy::Function),
            _ => None,
        };
        plan.strategies = plan.strategies.map(|s| chosen().unwrap_or(s));
        plan.users.fill(0);
    }
    plan.wide = Wide {
        never: chance.percent(20),
        atomic: chance.percent(40),
        rescue: draw.has(RESCUE),
        // Both at once are two misfortunes: a copy of what the disk has forgotten.
        power: draw.has(POWER) && !draw.has(RESCUE),
        strict: chance.percent(35),
    };
    let opened = plan.users.len();
    for _ in 0..20 + chance.index(30) {
        if let Some(act) = draw.act() {
            let at = opened + chance.index(plan.steps.len() + 1 - opened);
            plan.steps.insert(at, (act, draw.then()));
        }
    }
}
