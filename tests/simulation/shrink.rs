//! Makes a failing plan small: steps are left out as long as the same promise is broken.

use super::guard;
use super::plan::{Plan, Then};
use super::world::Violation;

/// Plays at most, so that it ends.
const TRIES_MAX: usize = 1_500;

struct Shrinker {
    name: &'static str,
    tries: usize,
}

impl Shrinker {
    fn fails(&mut self, plan: &Plan) -> bool {
        self.tries += 1;
        let broken = guard::play(plan, false).violation;
        broken.is_some_and(|v| v.name == self.name)
    }

    fn steps(&mut self, plan: &mut Plan) {
        let mut size = plan.steps.len() / 2;
        while size > 0 {
            let mut at = 0;
            let mut smaller = false;
            while at < plan.steps.len() && self.tries < TRIES_MAX {
                let mut without = plan.clone();
                let end = (at + size).min(plan.steps.len());
                without.steps.drain(at..end);
                if self.fails(&without) {
                    *plan = without;
                    smaller = true;
                } else {
                    at += size;
                }
            }
            if !smaller || self.tries >= TRIES_MAX {
                size /= 2;
            }
        }
    }

    /// Clocks that are right, clients that are not there, time that does not pass.
    fn rest(&mut self, plan: &mut Plan) {
        while plan.users.len() > 1 {
            let mut fewer = plan.clone();
            fewer.users.pop();
            fewer.skews_ms.pop();
            if !self.fails(&fewer) {
                break;
            }
            *plan = fewer;
        }
        let mut right = plan.clone();
        right.skews_ms.iter_mut().for_each(|ms| *ms = 0.0);
        if self.fails(&right) {
            *plan = right;
        }
        for i in 0..plan.steps.len() {
            for then in [Then::Polls(0), Then::Ms(200)] {
                let mut plain = plan.clone();
                plain.steps[i].1 = then;
                if plan.steps[i].1 != then && self.fails(&plain) {
                    *plan = plain;
                    break;
                }
            }
        }
    }
}

/// The smallest plan found that breaks the same promise.
pub(crate) fn shrink(plan: &Plan, violation: &Violation) -> Plan {
    let mut shrinker = Shrinker {
        name: violation.name,
        tries: 0,
    };
    let mut small = plan.clone();
    shrinker.steps(&mut small);
    shrinker.rest(&mut small);
    shrinker.steps(&mut small);
    small
}
