//! The plan of a story: steps drawn from a seed before anything runs, so that they can be printed
//! and left out one by one.
//!
//! Each seed draws for itself which kinds of trouble there are at all: a story in which everything
//! goes wrong at once hides what a quieter one shows.

use super::chance::Chance;
use super::hasty;
use super::net::Fault;
use super::server::Poison;
use super::wide::{self, More, Wide};
use landfall::options::Strategy;

/// Which records a write is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// Only this device's.
    Own(u8),
    /// Everybody's.
    Shared(u8),
    /// Local until it is promoted.
    Local(u8),
}

/// What a write does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Do {
    Create,
    Put,
    Update(&'static str),
    Delete,
    Promote,
}

/// One thing that somebody or something does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Act {
    Open(usize),
    Kill(usize, usize),
    KillBrowser(usize),
    Close(usize, usize),
    HandOver(usize),
    Write(usize, usize, &'static str, Key, Do),
    /// A site and a note below it, together or not at all.
    Transaction(usize, usize, Key, Key),
    Fault(usize, Fault),
    /// The network goes or comes back; the browser notices or not.
    Network(usize, bool, bool),
    ServerDown(bool),
    Poison(Key, usize, Poison),
    Cure,
    BatchMax(Option<usize>),
    Expire(usize, bool),
    DiskFull(usize, bool),
    Abort(usize, u32),
    Clock(usize, f64),
    Fold(usize),
    Sweep(usize),
    Evict(usize, usize),
    Pause(usize, bool),
    Sync(usize, usize),
    Poke(usize),
    /// Somebody else writes; the transaction commits so many ms late.
    Elsewhere(usize, u8, bool, u64),
    Retry(usize),
    Discard(usize, bool),
    /// The server's checkpoints are of another database from now on.
    NewGeneration,
    /// What only wide stories have.
    More(More),
}

/// What passes after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// So many polls, and no time: the next step comes at whatever point they lead to.
    Polls(u32),
    Ms(u64),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// The user of each device.
    pub(crate) users: Vec<usize>,
    pub(crate) strategies: [Strategy; 3],
    pub(crate) skews_ms: Vec<f64>,
    pub(crate) page_max: usize,
    pub(crate) latency_ms: u64,
    pub(crate) wide: Wide,
    pub(crate) steps: Vec<(Act, Then)>,
}

/// Kinds of trouble.
const KINDS: u64 = 14;
const SKEWS_MS: [f64; 7] = [
    0.0,
    0.0,
    4_000.0,
    -4_000.0,
    600_000.0,
    -600_000.0,
    7_200_000.0,
];
const FIELDS: [&str; 2] = ["a", "b"];

struct Draw {
    chance: Chance,
    clients: usize,
    /// Which kinds of trouble this story has.
    kinds: u64,
}

impl Draw {
    fn has(&self, kind: u64) -> bool {
        self.kinds & (1 << kind) != 0
    }

    fn key(&self) -> Key {
        let n = self.chance.below(3) as u8;
        match self.chance.below(10) {
            0..=4 => Key::Own(n),
            5..=8 => Key::Shared(n),
            _ => Key::Local(n),
        }
    }

    fn write(&self, c: usize, t: usize) -> Act {
        let collection = match self.chance.below(10) {
            0..=4 => "sites",
            5..=7 => "notes",
            8 => "blocks",
            _ => "drafts",
        };
        let key = match self.key() {
            Key::Local(n) if collection != "sites" => Key::Own(n),
            key => key,
        };
        let what = match self.chance.below(12) {
            0..=1 => Do::Create,
            2..=4 => Do::Put,
            5..=8 => Do::Update(FIELDS[self.chance.index(2)]),
            9..=10 => Do::Delete,
            _ if matches!(key, Key::Local(_)) => Do::Promote,
            _ => Do::Put,
        };
        let what = match (key, what) {
            (Key::Local(_), Do::Update(_)) if self.chance.percent(50) => Do::Promote,
            (_, what) => what,
        };
        Act::Write(c, t, collection, key, what)
    }

    fn fault(&self) -> Fault {
        let chance = &self.chance;
        let status = [400, 403, 404, 408, 413, 429, 429, 500, 503, 503];
        match chance.below(12) {
            0..=1 => Fault::Lost,
            2..=4 => Fault::AnswerLost,
            5 => Fault::Twice(chance.below(20_000)),
            6 => Fault::Late(chance.below(5_000)),
            7..=8 => {
                let after = chance.percent(60).then(|| chance.below(8_000));
                Fault::Status(status[chance.index(status.len())], after)
            }
            9 => Fault::Hangs,
            10 => Fault::ShortAnswer,
            _ => Fault::ForeignAnswer,
        }
    }

    /// The kinds in which something breaks.
    fn trouble(&self, c: usize, t: usize) -> Option<Act> {
        let chance = &self.chance;
        let kind = chance.below(KINDS);
        if !self.has(kind) {
            return None;
        }
        Some(match kind {
            0..=2 => Act::Fault(c, self.fault()),
            3 => Act::Kill(c, t),
            4 => Act::KillBrowser(c),
            5 => Act::Network(c, chance.percent(55), chance.percent(50)),
            6 => Act::ServerDown(chance.percent(50)),
            7 if chance.percent(40) => Act::Cure,
            7 => {
                let why = [Poison::Invalid, Poison::Later, Poison::Request];
                Act::Poison(self.key(), c, why[chance.index(3)])
            }
            8 if chance.percent(50) => Act::BatchMax(None),
            8 => Act::BatchMax(Some(1 + chance.index(3))),
            9 => Act::Expire(c, chance.percent(20)),
            10 if chance.percent(50) => Act::Abort(c, 1 + chance.below(3) as u32),
            10 => Act::DiskFull(c, chance.percent(50)),
            11 => Act::Clock(c, SKEWS_MS[chance.index(SKEWS_MS.len())]),
            12 if chance.percent(70) => Act::HandOver(c),
            12 => Act::NewGeneration,
            _ => Act::Discard(c, chance.percent(40)),
        })
    }

    fn act(&self) -> Act {
        let chance = &self.chance;
        let (c, t) = (chance.index(self.clients), chance.index(3));
        if chance.percent(25)
            && let Some(trouble) = self.trouble(c, t)
        {
            return trouble;
        }
        match chance.below(30) {
            0..=18 => self.write(c, t),
            19..=20 => {
                let n = chance.below(3) as u8;
                let site = if chance.percent(70) {
                    Key::Own(n)
                } else {
                    Key::Shared(n)
                };
                Act::Transaction(c, t, site, Key::Own(chance.below(3) as u8))
            }
            21..=22 => Act::Open(c),
            23 => Act::Close(c, t),
            24 => Act::Fold(c),
            25 if chance.percent(60) => Act::Sweep(c),
            25 => Act::Evict(c, t),
            26 => Act::Pause(c, chance.percent(40)),
            27 => Act::Sync(c, t),
            28 if chance.percent(50) => Act::Poke(c),
            28 => Act::Retry(c),
            _ => {
                let late_ms = if chance.percent(50) {
                    0
                } else {
                    chance.below(2_000)
                };
                Act::Elsewhere(c, chance.below(3) as u8, chance.percent(25), late_ms)
            }
        }
    }

    fn then(&self) -> Then {
        let chance = &self.chance;
        match chance.below(20) {
            0..=4 => Then::Polls(0),
            5..=9 => Then::Polls(1 + chance.below(14) as u32),
            10..=13 => Then::Ms(1 + chance.below(8)),
            14..=17 => Then::Ms(20 + chance.below(200)),
            18 => Then::Ms(500 + chance.below(4_000)),
            _ if chance.percent(10) => Then::Ms(65_000),
            _ => Then::Ms(2_000),
        }
    }
}

/// From this seed on a story is wide: the same draws, and further steps from a stream of their own, so
/// that what is added to them leaves the stories of all seeds below as they are.
pub(crate) const WIDE_FROM: u64 = 1_000_000_000;

/// From this seed on a wide story is hasty as well.
pub(crate) const HASTY_FROM: u64 = 2_000_000_000;

/// The plan of a seed.
pub(crate) fn draw(seed: u64) -> Plan {
    let mut plan = narrow(seed);
    if seed >= WIDE_FROM {
        wide::widen(&mut plan);
    }
    if seed >= HASTY_FROM {
        hasty::hasten(&mut plan);
    }
    plan
}

fn narrow(seed: u64) -> Plan {
    let chance = Chance::new(seed);
    let clients = 1 + chance.index(3);
    let kinds = chance.below(1 << KINDS) & chance.below(1 << KINDS)
        | 1 << chance.below(KINDS)
        | 1 << chance.below(KINDS);
    let all = [
        Strategy::LastWriteWins,
        Strategy::Merge,
        Strategy::ServerWins,
        Strategy::ClientWins,
    ];
    let mut strategies = [
        Strategy::LastWriteWins,
        Strategy::Merge,
        Strategy::ClientWins,
    ];
    if chance.percent(50) {
        strategies = strategies.map(|_| all[chance.index(4)]);
    }
    let skewed = kinds & (1 << 11) != 0;
    let skew = || {
        if skewed {
            SKEWS_MS[chance.index(SKEWS_MS.len())]
        } else {
            0.0
        }
    };
    let mut plan = Plan {
        seed,
        users: (0..clients)
            .map(|_| usize::from(chance.percent(12)))
            .collect(),
        strategies,
        skews_ms: (0..clients).map(|_| skew()).collect(),
        page_max: 2 + chance.index(6),
        latency_ms: [1, 10, 60, 300][chance.index(4)],
        wide: Wide::default(),
        steps: Vec::new(),
    };
    let count = 12 + chance.index(34);
    let draw = Draw {
        chance,
        clients,
        kinds,
    };
    for c in 0..clients {
        plan.steps.push((Act::Open(c), draw.then()));
    }
    for _ in 0..count {
        let act = draw.act();
        plan.steps.push((act, draw.then()));
    }
    plan
}
