//! One thread, virtual time, tasks in groups: a group is a tab, and killing it drops its futures
//! wherever they wait.
//!
//! Of the tasks that could go on, chance picks the next; time moves when none can. Nothing here
//! knows the real clock, so that a seed is played the same way for ever.

use super::chance::Chance;
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Which tab a task belongs to; [`WORLD`] is killed by nobody.
pub(crate) type Group = usize;
/// The network, the server and the browser's own work.
pub(crate) const WORLD: Group = 0;

/// Polls without any time passing: more than that is a livelock.
const POLLS_AT_ONCE_MAX: usize = 100_000;

type Ready = Arc<Mutex<Vec<Arc<Alarm>>>>;
type Work = Pin<Box<dyn Future<Output = ()>>>;

struct Alarm {
    slot: usize,
    number: u64,
    queued: AtomicBool,
    ready: Ready,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            let ready = self.ready.clone();
            ready
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(self);
        }
    }
}

struct Task {
    number: u64,
    group: Group,
    /// None while it runs.
    work: Option<Work>,
}

struct Timer {
    at_ms: u64,
    order: u64,
    waker: Waker,
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Timer {}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ms, self.order).cmp(&(other.at_ms, other.order))
    }
}

/// The executor.
pub(crate) struct Exec {
    tasks: RefCell<Vec<Option<Task>>>,
    free: RefCell<Vec<usize>>,
    ready: Ready,
    timers: RefCell<BinaryHeap<Reverse<Timer>>>,
    now_ms: Cell<u64>,
    count: Cell<u64>,
    chance: Chance,
    at_once: Cell<usize>,
}

impl Exec {
    pub(crate) fn new(chance: Chance) -> Rc<Self> {
        Rc::new(Self {
            tasks: RefCell::default(),
            free: RefCell::default(),
            ready: Ready::default(),
            timers: RefCell::default(),
            now_ms: Cell::new(0),
            count: Cell::new(0),
            chance,
            at_once: Cell::new(0),
        })
    }

    /// Virtual milliseconds since the beginning.
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    fn number(&self) -> u64 {
        self.count.set(self.count.get() + 1);
        self.count.get()
    }

    pub(crate) fn spawn(&self, group: Group, work: impl Future<Output = ()> + 'static) {
        self.spawn_boxed(group, Box::pin(work));
    }

    pub(crate) fn spawn_boxed(&self, group: Group, work: Work) {
        let mut tasks = self.tasks.borrow_mut();
        let slot = self.free.borrow_mut().pop().unwrap_or_else(|| {
            tasks.push(None);
            tasks.len() - 1
        });
        let number = self.number();
        let alarm = Arc::new(Alarm {
            slot,
            number,
            queued: AtomicBool::new(false),
            ready: self.ready.clone(),
        });
        let work = Some(work);
        tasks[slot] = Some(Task {
            number,
            group,
            work,
        });
        alarm.wake();
    }

    /// Drops every future of a group.
    pub(crate) fn kill(&self, group: Group) {
        let mut dead = Vec::new();
        for (slot, task) in self.tasks.borrow_mut().iter_mut().enumerate() {
            if let Some(task) = task.take_if(|t| t.group == group) {
                self.free.borrow_mut().push(slot);
                dead.push(task);
            }
        }
        // Outside of the borrow: what is dropped may wake others.
        drop(dead);
    }

    /// Drops everything.
    pub(crate) fn clear(&self) {
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        drop(tasks);
        // What was dropped may have spawned or woken; none of it is wanted.
        self.tasks.borrow_mut().clear();
        self.timers.borrow_mut().clear();
        let woken = std::mem::take(&mut *self.ready.lock().unwrap_or_else(PoisonError::into_inner));
        drop(woken);
    }

    /// Polls one task that can go on; answers whether there was one.
    fn poll_one(&self) -> bool {
        let alarm = {
            let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
            if ready.is_empty() {
                return false;
            }
            let i = self.chance.index(ready.len());
            ready.swap_remove(i)
        };
        alarm.queued.store(false, Ordering::Relaxed);
        let slot = alarm.slot;
        let work = match &mut self.tasks.borrow_mut()[slot] {
            Some(task) if task.number == alarm.number => task.work.take(),
            _ => None,
        };
        let Some(mut work) = work else { return true };
        self.at_once.set(self.at_once.get() + 1);
        assert!(
            self.at_once.get() < POLLS_AT_ONCE_MAX,
            "livelock: no time passes"
        );
        let waker = Waker::from(alarm);
        let over = work
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready();
        let mut tasks = self.tasks.borrow_mut();
        if over {
            let gone = tasks[slot].take();
            self.free.borrow_mut().push(slot);
            drop(tasks);
            drop((gone, work));
        } else if let Some(task) = &mut tasks[slot] {
            task.work = Some(work);
        }
        true
    }

    /// Polls so many times at most, without time passing.
    pub(crate) fn poll(&self, times: u32) {
        for _ in 0..times {
            if !self.poll_one() {
                return;
            }
        }
    }

    /// Lets so many milliseconds pass.
    pub(crate) fn pass(&self, ms: u64) {
        let until_ms = self.now_ms.get() + ms;
        loop {
            while self.poll_one() {}
            let mut timers = self.timers.borrow_mut();
            let due = timers.peek().map(|Reverse(t)| t.at_ms);
            match due.filter(|at| *at <= until_ms) {
                Some(at_ms) => {
                    self.set_now(at_ms);
                    let timer = timers.pop();
                    drop(timers);
                    if let Some(Reverse(timer)) = timer {
                        timer.waker.wake();
                    }
                }
                None => break,
            }
        }
        self.set_now(until_ms);
    }

    fn set_now(&self, ms: u64) {
        if ms > self.now_ms.get() {
            self.now_ms.set(ms);
            self.at_once.set(0);
        }
    }

    /// Resolves after so many milliseconds.
    pub(crate) fn sleep(self: &Rc<Self>, ms: u64) -> Sleep {
        Sleep {
            exec: self.clone(),
            at_ms: self.now_ms.get() + ms,
            set: false,
        }
    }

    /// Lets others go first, and now and then a moment pass: where a transaction waits.
    pub(crate) async fn moment(self: &Rc<Self>) {
        match self.chance.below(6) {
            0 => self.sleep(1 + self.chance.below(3)).await,
            _ => Yield(false).await,
        }
    }
}

/// A wait.
pub(crate) struct Sleep {
    exec: Rc<Exec>,
    at_ms: u64,
    set: bool,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.exec.now_ms.get() >= self.at_ms {
            return Poll::Ready(());
        }
        if !self.set {
            self.set = true;
            let timer = Timer {
                at_ms: self.at_ms,
                order: self.exec.number(),
                waker: context.waker().clone(),
            };
            self.exec.timers.borrow_mut().push(Reverse(timer));
        }
        Poll::Pending
    }
}

struct Yield(bool);

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0 {
            return Poll::Ready(());
        }
        self.0 = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
