//! IndexedDB's events as futures. Handlers are attached when the request or transaction is made,
//! never later: an event that nobody listened for does not come again.
//!
//! Nothing here waits for ever: browsers have been seen to let a request or a transaction hang. The
//! limits are counted in steps while the page is awake, so that a device that slept for an hour
//! does not wake up to transactions that have all timed out.

use super::glue::{self, get};
use super::idb::storage_error;
use crate::error::{Code, Error, Result};
use crate::limits;
use futures_channel::oneshot;
use futures_util::future::{Either, select};
use gloo_timers::future::TimeoutFuture;
use js_sys::{Array, Function};
use std::cell::{Cell, RefCell};
use std::future::Future;
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

/// What an event has told: a result, or the reason of a failure.
type Answer = std::result::Result<JsValue, JsValue>;

/// The kinds of `listen` in `glue.js`; anything else is no answer at all.
const FINE: u32 = 0;
const FAILED: u32 = 1;

/// What waits for an event of IndexedDB. One handler serves them all: making one for each would
/// cost more than the rest of a small write.
struct Waits {
    handler: Closure<dyn FnMut(u32, u32, JsValue)>,
    senders: Vec<(u32, oneshot::Sender<Option<Answer>>)>,
    next: u32,
}

thread_local! {
    static WAITS: RefCell<Waits> = RefCell::new(Waits {
        handler: Closure::new(answered),
        senders: Vec::new(),
        next: 0,
    });
}

fn answered(token: u32, ended: u32, value: JsValue) {
    let sender = WAITS.with_borrow_mut(|waits| {
        let at = waits
            .senders
            .iter()
            .position(|(known, _)| *known == token)?;
        Some(waits.senders.swap_remove(at).1)
    });
    let answer = match ended {
        FINE => Some(Ok(value)),
        FAILED => Some(Err(value)),
        _ => None,
    };
    if let Some(sender) = sender {
        // Nobody may wait any more.
        let _ = sender.send(answer);
    }
}

/// A number for a wait, the handler to call with it, and what comes of it.
fn register() -> (u32, JsValue, oneshot::Receiver<Option<Answer>>) {
    let (sender, receiver) = oneshot::channel();
    WAITS.with_borrow_mut(|waits| {
        let token = waits.next;
        waits.next = waits.next.wrapping_add(1);
        waits.senders.push((token, sender));
        (token, waits.handler.as_ref().clone(), receiver)
    })
}

type Handler = Closure<dyn FnMut()>;

/// Takes at most one answer, from whichever handler comes first.
struct Once(RefCell<Option<oneshot::Sender<Answer>>>);

impl Once {
    fn new() -> (Rc<Self>, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        (Rc::new(Self(RefCell::new(Some(sender)))), receiver)
    }

    fn send(&self, answer: Answer) {
        if let Some(sender) = self.0.borrow_mut().take() {
            // Nobody waits any more.
            let _ = sender.send(answer);
        }
    }
}

/// Handlers for success and failure: they answer with a property of `target`.
fn handlers(once: &Rc<Once>, target: &JsValue, success: &'static str) -> (Handler, Handler) {
    let handler = |field: &'static str| {
        let (once, target) = (once.clone(), target.clone());
        Handler::new(move || {
            let value = get(&target, field);
            let fine = field != ERROR;
            once.send(if fine { Ok(value) } else { Err(value) });
        })
    };
    (handler(success), handler(ERROR))
}

const ERROR: &str = "error";

fn function(handler: &Handler) -> Option<&Function> {
    Some(handler.as_ref().unchecked_ref())
}

/// What was sent, or none after `limit_ms()`, which is asked at each step.
async fn in_time(
    mut answer: oneshot::Receiver<Answer>,
    limit_ms: &dyn Fn() -> u32,
) -> Option<Answer> {
    let mut waited_ms = 0;
    loop {
        let step = TimeoutFuture::new(limits::WAITING_STEP_MS);
        match select(answer, step).await {
            Either::Left((sent, _)) => return sent.ok(),
            Either::Right(((), unanswered)) => answer = unanswered,
        }
        waited_ms += limits::WAITING_STEP_MS;
        if waited_ms >= limit_ms() {
            return None;
        }
    }
}

/// The error of what has not answered in time.
pub(super) fn no_answer(code: Code) -> Error {
    Error::new(code, "the database did not answer in time")
}

async fn end_of(tx: IdbTransaction, end: oneshot::Receiver<Option<Answer>>) -> Ended {
    match end.await.ok().flatten() {
        Some(Ok(_)) => Ended::Complete,
        Some(Err(reason)) => Ended::Aborted(reason),
        None => {
            // Refused where it was told to commit: then only reading shows what has become of it.
            let _ = tx.abort();
            Ended::Silent
        }
    }
}

/// The end of a transaction. Call it before the first request.
pub(super) fn ended(tx: &IdbTransaction) -> impl Future<Output = Ended> + use<> {
    let (token, handler, end) = register();
    glue::listen_to_end(tx, token, &handler);
    end_of(tx.clone(), end)
}

/// Adds values at the keys after `after`, in a transaction of their own. What is thrown at once is
/// the error; then nothing is stored.
pub(super) fn append(
    db: &IdbDatabase,
    store: &str,
    durability: &str,
    after: f64,
    values: &Array,
    early: bool,
) -> std::result::Result<impl Future<Output = Ended> + use<>, JsValue> {
    let (token, handler, end) = register();
    let (store, durability) = (glue::name(store), glue::name(durability));
    let tx = glue::append(
        db,
        &store,
        &durability,
        after,
        values,
        early,
        token,
        &handler,
    )?;
    Ok(end_of(tx, end))
}

/// The result of a request. One that does not answer in time takes its connection with it, so that
/// the next call begins with a new one.
pub(super) fn result(request: IdbRequest) -> impl Future<Output = Result<JsValue>> {
    let (token, handler, answer) = register();
    glue::listen(&request, token, &handler);
    async move {
        if let Some(answer) = answer.await.ok().flatten() {
            return answer.map_err(|e| storage_error(&e));
        }
        let Some(tx) = request.transaction() else {
            return Err(no_answer(Code::StorageFailed));
        };
        let lost = glue::is_lost(&tx.db());
        let _ = tx.abort();
        tx.db().close();
        Err(no_answer(if lost {
            Code::DatabaseLost
        } else {
            Code::StorageFailed
        }))
    }
}

/// An opened database. `upgrade` is called with the version it had (0: there was none) where that
/// is lower than the one asked for; it makes the stores, or aborts the transaction, which ends in
/// an error.
pub(super) async fn opened(
    request: IdbOpenDbRequest,
    upgrade: impl FnOnce(&IdbDatabase, &IdbTransaction, u32) + 'static,
) -> Result<IdbDatabase> {
    let (once, answer) = Once::new();
    // What it waits for decides how long.
    let limit_ms = Rc::new(Cell::new(limits::OPEN_TIMEOUT_MS));
    let upgrading = Closure::<dyn FnMut(JsValue)>::new({
        let (limit_ms, request) = (limit_ms.clone(), request.clone());
        let mut upgrade = Some(upgrade);
        move |event: JsValue| {
            limit_ms.set(limits::TRANSACTION_TIMEOUT_MS);
            if let (Some(tx), Some(upgrade)) = (request.transaction(), upgrade.take()) {
                let old = get(&event, "oldVersion").as_f64().unwrap_or(0.0);
                upgrade(&tx.db(), &tx, old as u32);
            }
        }
    });
    let blocked = Handler::new({
        let limit_ms = limit_ms.clone();
        move || limit_ms.set(limits::BLOCKED_WAIT_MS)
    });
    let (success, error) = handlers(&once, &request, "result");
    request.set_onupgradeneeded(Some(upgrading.as_ref().unchecked_ref()));
    request.set_onblocked(function(&blocked));
    request.set_onsuccess(function(&success));
    request.set_onerror(function(&error));
    let answer = in_time(answer, &|| limit_ms.get()).await;
    request.set_onupgradeneeded(None);
    request.set_onblocked(None);
    request.set_onsuccess(None);
    request.set_onerror(None);
    drop((upgrading, blocked, success, error));
    match answer {
        Some(Ok(db)) => Ok(db.unchecked_into()),
        Some(Err(error)) => Err(storage_error(&error)),
        None => {
            forsake(&request);
            let message = "the database could not be opened in time; another tab may keep it";
            Err(Error::new(Code::DatabaseBlocked, message))
        }
    }
}

/// Nobody waits for it any more, but it cannot be taken back. It must not change the database when
/// its turn comes after all, nor hold it open.
fn forsake(request: &IdbOpenDbRequest) {
    let abort = {
        let request = request.clone();
        move || {
            if let Some(tx) = request.transaction() {
                let _ = tx.abort();
            }
        }
    };
    abort();
    request.set_onupgradeneeded(Some(Closure::once_into_js(abort).unchecked_ref()));
    let close = {
        let request = request.clone();
        move || {
            get(&request, "result")
                .unchecked_into::<IdbDatabase>()
                .close();
        }
    };
    request.set_onsuccess(Some(Closure::once_into_js(close).unchecked_ref()));
    // Firefox reports an error that nobody took to the page.
    let quiet = |event: web_sys::Event| event.prevent_default();
    request.set_onerror(Some(Closure::once_into_js(quiet).unchecked_ref()));
}
