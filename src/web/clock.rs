//! Time, chance and tasks of the browser.

use super::glue;
use crate::driver::Clock;
use gloo_timers::future::TimeoutFuture;
use std::future::Future;
use std::pin::Pin;
use wasm_bindgen_futures::JsFuture;

/// The longest that a browser's timer can wait; longer waits are cut into these.
const TIMER_MAX_MS: f64 = 2_000_000_000.0;

/// The browser's clock.
pub(super) struct WebClock;

impl Clock for WebClock {
    fn now_ms(&self) -> f64 {
        js_sys::Date::now()
    }

    fn random(&self) -> f64 {
        js_sys::Math::random()
    }

    async fn sleep(&self, ms: f64) {
        let mut left_ms = ms.max(0.0);
        while left_ms > TIMER_MAX_MS {
            TimeoutFuture::new(TIMER_MAX_MS as u32).await;
            left_ms -= TIMER_MAX_MS;
        }
        TimeoutFuture::new(left_ms.ceil() as u32).await;
    }

    async fn pause(&self) {
        // No timer: those of a hidden page are put off for up to a minute. It is never rejected.
        let _ = JsFuture::from(glue::soon()).await;
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()>>>) {
        wasm_bindgen_futures::spawn_local(task);
    }
}
