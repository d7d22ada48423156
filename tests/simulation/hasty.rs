//! Hasty stories: wide ones of devices that write without a rest, are killed in the middle of it, and
//! whose databases are thrown away in the session after that or the next.
//!
//! A rescue copy that is right after each pause can be wrong where there never was one.

use super::chance::Chance;
use super::plan::{Act, Do, Key, Plan, Then};
use super::wide::More;

struct Draw {
    chance: Chance,
}

impl Draw {
    /// Less than the copy is late.
    fn soon(&self) -> Then {
        match self.chance.below(3) {
            0 => Then::Polls(self.chance.below(14) as u32),
            _ => Then::Ms(self.chance.below(10)),
        }
    }

    fn write(&self, c: usize) -> Act {
        let chance = &self.chance;
        let collection = ["sites", "sites", "notes", "blocks"][chance.index(4)];
        let n = chance.below(3) as u8;
        let key = if chance.percent(80) {
            Key::Own(n)
        } else {
            Key::Shared(n)
        };
        let what = match chance.below(8) {
            0..=2 => Do::Put,
            3..=4 => Do::Update(["a", "b"][chance.index(2)]),
            5..=6 => Do::Delete,
            _ => Do::Create,
        };
        Act::Write(c, chance.index(2), collection, key, what)
    }

    /// Writes without a rest, then a start or two, and in between the database may be gone.
    fn burst(&self, c: usize) -> Vec<(Act, Then)> {
        let chance = &self.chance;
        let mut steps = Vec::new();
        // What was not sent leaves nothing when it is deleted again, but in the copy.
        let offline = chance.percent(40);
        if offline {
            steps.push((Act::Network(c, false, true), self.soon()));
        }
        for _ in 0..1 + chance.index(3) {
            for _ in 0..chance.index(40) {
                steps.push((self.write(c), self.soon()));
            }
            let loss = match chance.below(5) {
                0..=2 => Act::KillBrowser(c),
                _ => Act::More(More::Wipe(c)),
            };
            steps.push((loss, self.soon()));
            let rest = match chance.below(3) {
                0 => self.soon(),
                _ => Then::Ms(20 + chance.below(300)),
            };
            steps.push((Act::Open(c), rest));
        }
        if offline {
            steps.push((Act::Network(c, true, true), self.soon()));
        }
        steps
    }

    /// A database's first session ends in the middle of writes, the next one makes good what the copy lacks,
    /// and then only the copy is left.
    fn young(&self, c: usize) -> Vec<(Act, Then)> {
        let chance = &self.chance;
        let mut steps = vec![(Act::Network(c, false, true), self.soon())];
        for _ in 0..4 + chance.index(30) {
            steps.push((self.write(c), self.soon()));
        }
        let key = Key::Own(chance.below(3) as u8);
        steps.push((Act::Write(c, 0, "sites", key, Do::Delete), self.soon()));
        steps.push((Act::KillBrowser(c), self.soon()));
        steps.push((Act::Open(c), Then::Ms(200 + chance.below(300))));
        steps.push((Act::More(More::Wipe(c)), self.soon()));
        steps.push((Act::Open(c), self.soon()));
        steps.push((Act::Network(c, true, true), self.soon()));
        steps
    }
}

/// Makes a wide plan hasty.
pub(crate) fn hasten(plan: &mut Plan) {
    let draw = Draw {
        chance: Chance::new(plan.seed ^ 0x4841_5354),
    };
    let chance = &draw.chance;
    plan.wide.rescue = true;
    plan.wide.power = false;
    for (_, then) in &mut plan.steps {
        if matches!(then, Then::Ms(9..)) && chance.percent(80) {
            *then = draw.soon();
        }
    }
    let opened = plan.users.len();
    if chance.percent(60) {
        let young = draw.young(chance.index(opened));
        plan.steps.splice(opened..opened, young);
    }
    for _ in 0..1 + chance.index(3) {
        let at = opened + chance.index(plan.steps.len() + 1 - opened);
        // Often right at the beginning: a database's first session is unlike the later ones.
        let at = if chance.percent(40) { opened } else { at };
        let burst = draw.burst(chance.index(opened));
        plan.steps.splice(at..at, burst);
    }
}
