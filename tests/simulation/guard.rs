//! A panic in the code under test is a broken promise like any other.

use super::plan::Plan;
use super::server::Core;
use super::story::{self, Ending};
use super::world::Violation;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::Once;

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Plays a plan; a panic is an ending too.
pub(crate) fn play(plan: &Plan, in_words: bool) -> Ending {
    played(plan, in_words, None)
}

/// The same over a real server.
pub(crate) fn played(plan: &Plan, in_words: bool, core: Option<Box<dyn Core>>) -> Ending {
    HOOK.call_once(|| {
        set_hook(Box::new(|info| {
            PANIC.with(|p| p.replace(Some(info.to_string())));
        }));
    });
    let played = catch_unwind(AssertUnwindSafe(|| story::play(plan, in_words, core)));
    played.unwrap_or_else(|_| {
        let detail = PANIC.with(RefCell::take).unwrap_or_default();
        let name = "panic";
        Ending {
            violation: Some(Violation { name, detail }),
            trace: 0,
            words: Vec::new(),
        }
    })
}
