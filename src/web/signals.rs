//! The browser's hints: the network comes and goes, the page is seen again.

use super::glue::get;
use crate::engine::Event;
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use web_sys::EventTarget;

/// Listeners that go when this is dropped.
pub(super) struct Signals(Vec<Listening>);

type Listening = (EventTarget, &'static str, Closure<dyn FnMut()>);

/// What the browser says of the network; a hint, but all there is before the first request.
pub(super) fn online() -> bool {
    get(&get(&js_sys::global(), "navigator"), "onLine")
        .as_bool()
        .unwrap_or(true)
}

impl Signals {
    /// Reports the browser's events, in a page as in a worker; `hidden` is called when nobody sees the
    /// page any more.
    pub(super) fn watch(report: impl Fn(Event) + 'static, hidden: impl Fn() + 'static) -> Self {
        let report = Rc::new(report);
        let global: EventTarget = js_sys::global().unchecked_into();
        let mut signals = Self(Vec::new());
        let on = report.clone();
        signals.listen(&global, "online", move || on(Event::Online));
        let off = report.clone();
        signals.listen(&global, "offline", move || off(Event::Offline));
        let document = get(&js_sys::global(), "document");
        if document.is_object() {
            let target: EventTarget = document.clone().unchecked_into();
            let hidden = Rc::new(hidden);
            let left = hidden.clone();
            signals.listen(&target, "visibilitychange", move || {
                if get(&document, "visibilityState").as_string().as_deref() == Some("visible") {
                    report(Event::Visible);
                } else {
                    hidden();
                }
            });
            // Not every browser says that a page which it leaves is hidden.
            signals.listen(&global, "pagehide", move || left());
        }
        signals
    }

    fn listen(&mut self, target: &EventTarget, event: &'static str, run: impl FnMut() + 'static) {
        let run = Closure::<dyn FnMut()>::new(run);
        let added = target.add_event_listener_with_callback(event, run.as_ref().unchecked_ref());
        if added.is_ok() {
            self.0.push((target.clone(), event, run));
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for (target, event, run) in &self.0 {
            let _ = target.remove_event_listener_with_callback(event, run.as_ref().unchecked_ref());
        }
    }
}
