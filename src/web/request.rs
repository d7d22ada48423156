//! IndexedDB's events as futures. Handlers are attached when the request or transaction is made,
//! never later: an event that nobody listened for does not come again.

use super::glue::get;
use super::idb::storage_error;
use crate::error::{Code, Error, Result};
use futures_channel::oneshot;
use futures_util::future::{Either, select};
use gloo_timers::future::TimeoutFuture;
use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use web_sys::{IdbDatabase, IdbOpenDbRequest, IdbRequest, IdbTransaction};

/// How a transaction ended.
pub(super) enum Ended {
    /// It is stored.
    Complete,
    /// Nothing of it is stored; the reason is a DOMException, or null.
    Aborted(JsValue),
    /// It called back neither way.
    Silent,
}

/// Sends at most one answer, from whichever handler comes first.
struct Once<T>(RefCell<Option<oneshot::Sender<T>>>);

impl<T> Once<T> {
    fn new() -> (Rc<Self>, oneshot::Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (Rc::new(Self(RefCell::new(Some(sender)))), receiver)
    }

    fn send(&self, value: T) {
        if let Some(sender) = self.0.borrow_mut().take() {
            // Nobody waits any more.
            let _ = sender.send(value);
        }
    }
}

fn handler(run: impl FnMut() + 'static) -> Closure<dyn FnMut()> {
    Closure::new(run)
}

/// The end of a transaction. Call it before the first request.
pub(super) fn ended(tx: &IdbTransaction, timeout_ms: u32) -> impl Future<Output = Ended> + use<> {
    let (once, end) = Once::new();
    let complete = handler({
        let once = once.clone();
        move || once.send(Ended::Complete)
    });
    let abort = handler({
        let tx = tx.clone();
        move || once.send(Ended::Aborted(get(&tx, "error")))
    });
    tx.set_oncomplete(Some(complete.as_ref().unchecked_ref()));
    tx.set_onabort(Some(abort.as_ref().unchecked_ref()));
    let tx = tx.clone();
    async move {
        let ended = match select(end, pin!(TimeoutFuture::new(timeout_ms))).await {
            Either::Left((Ok(ended), _)) => ended,
            _ => Ended::Silent,
        };
        tx.set_oncomplete(None);
        tx.set_onabort(None);
        drop((complete, abort));
        ended
    }
}

/// The result of a request.
pub(super) fn result(request: IdbRequest) -> impl Future<Output = Result<JsValue>> {
    let (once, answer) = Once::new();
    let success = handler({
        let (once, request) = (once.clone(), request.clone());
        move || once.send(Ok(get(&request, "result")))
    });
    let error = handler({
        let request = request.clone();
        move || once.send(Err(storage_error(&get(&request, "error"))))
    });
    request.set_onsuccess(Some(success.as_ref().unchecked_ref()));
    request.set_onerror(Some(error.as_ref().unchecked_ref()));
    async move {
        let answer = answer.await;
        request.set_onsuccess(None);
        request.set_onerror(None);
        drop((success, error));
        answer.unwrap_or_else(|_| Err(Error::new(Code::Closed, "closed")))
    }
}

/// An opened database; `not-found` where there is none yet (and none is made).
pub(super) async fn opened(
    request: IdbOpenDbRequest,
    upgrade_from: fn(&IdbDatabase, u32) -> bool,
) -> Result<IdbDatabase> {
    let (once, answer) = Once::new();
    let missing = Rc::new(RefCell::new(false));
    let upgrade = Closure::<dyn FnMut(JsValue)>::new({
        let (missing, request) = (missing.clone(), request.clone());
        move |event: JsValue| {
            let old = get(&event, "oldVersion").as_f64().unwrap_or(0.0);
            if let Some(tx) = request.transaction()
                && !upgrade_from(&tx.db(), old as u32)
            {
                *missing.borrow_mut() = true;
                let _ = tx.abort();
            }
        }
    });
    let blocked = handler({
        let once = once.clone();
        move || {
            let message = "another tab keeps an older version of the database open";
            once.send(Err(Error::new(Code::DatabaseBlocked, message)));
        }
    });
    let success = handler({
        let (once, request) = (once.clone(), request.clone());
        move || once.send(Ok(get(&request, "result").unchecked_into::<IdbDatabase>()))
    });
    let error = handler({
        let request = request.clone();
        move || {
            once.send(Err(if *missing.borrow() {
                Error::new(Code::NotFound, "there is no such database yet")
            } else {
                storage_error(&get(&request, "error"))
            }));
        }
    });
    request.set_onupgradeneeded(Some(upgrade.as_ref().unchecked_ref()));
    request.set_onblocked(Some(blocked.as_ref().unchecked_ref()));
    request.set_onsuccess(Some(success.as_ref().unchecked_ref()));
    request.set_onerror(Some(error.as_ref().unchecked_ref()));
    let answer = answer.await;
    request.set_onupgradeneeded(None);
    request.set_onblocked(None);
    request.set_onsuccess(None);
    request.set_onerror(None);
    drop((upgrade, blocked, success, error));
    answer.unwrap_or_else(|_| Err(Error::new(Code::Closed, "closed")))
}
