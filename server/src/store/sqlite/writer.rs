//! The one writer. SQLite lets one connection write at a time, so all writes go through one thread
//! with a queue in front of it: nobody waits for a lock, and batches that wait together share a
//! commit, and so an fsync. Each is answered only after that commit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use super::engine;
use crate::limits;
use crate::store::StoreError;

/// The writing thread and the queue in front of it. Dropping it finishes what is queued.
pub(super) struct Writer {
    queue: Option<SyncSender<Job>>,
    waiting: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

enum Job {
    /// Shares a transaction with its neighbours.
    Write(Box<dyn Write>),
    /// Has the connection to itself: reads of an in-memory database, which only this connection
    /// can see, and which must not see a transaction that is still open.
    Alone(Box<dyn FnOnce(&mut Connection) + Send>),
}

impl Writer {
    pub(super) fn start(connection: Connection) -> Result<Self, StoreError> {
        let (queue, jobs) = sync_channel(limits::WRITE_QUEUE_MAX);
        let waiting = Arc::new(AtomicUsize::new(0));
        let jobs = Jobs {
            jobs,
            waiting: Arc::clone(&waiting),
        };
        let thread = Builder::new()
            .name("landfall-writer".into())
            .spawn(move || work(connection, &jobs))
            .map_err(|error| StoreError::Engine(Arc::new(error)))?;
        Ok(Self {
            queue: Some(queue),
            waiting,
            thread: Some(thread),
        })
    }

    /// Does `work` in a transaction and answers once it is committed. Where `work` fails, nothing
    /// of it remains.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.write_and_tell(work, |_| ()).await
    }

    /// The same; `tell` is called after the commit, even where nobody waits for the answer any
    /// more.
    pub(super) async fn write_and_tell<T, F, G>(&self, work: F, tell: G) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
        G: FnOnce(&T) + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Write(Box::new(Task {
            work: Some(work),
            outcome: None,
            tell,
            reply,
        })))?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Does `work` on the connection, between transactions.
    pub(super) async fn alone<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Alone(Box::new(move |connection| {
            let _ = reply.send(work(connection));
        })))?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    fn send(&self, job: Job) -> Result<(), StoreError> {
        let queue = self.queue.as_ref().ok_or(StoreError::Closed)?;
        // Before it is sent: the writer may have taken it when this goes on.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        queue.try_send(job).map_err(|error| {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => StoreError::Overloaded,
                TrySendError::Disconnected(_) => StoreError::Closed,
            }
        })
    }

    /// Jobs that wait for the writer.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A piece of writing whose result waits for the commit.
trait Write: Send {
    /// Does the work; whether it is to be kept.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Tells the one who asked, after the commit or instead of it.
    fn answer(self: Box<Self>, commit: Result<(), StoreError>);
}

struct Task<T, F, G> {
    work: Option<F>,
    outcome: Option<Result<T, StoreError>>,
    tell: G,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F, G> Write for Task<T, F, G>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T, StoreError> + Send,
    G: FnOnce(&T) + Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        let work = self.work.take();
        let outcome = work.map_or(Err(StoreError::Closed), |work| work(connection));
        self.outcome.insert(outcome).is_ok()
    }

    fn answer(self: Box<Self>, commit: Result<(), StoreError>) {
        // The work's own failure is the better explanation.
        let outcome = match (self.outcome, commit) {
            (Some(Err(error)), _) | (_, Err(error)) => Err(error),
            (Some(Ok(value)), Ok(())) => {
                (self.tell)(&value);
                Ok(value)
            }
            // It panicked.
            (None, Ok(())) => Err(StoreError::Damaged("the writer stumbled")),
        };
        // An error means that nobody waits any more; the work is done all the same.
        let _ = self.reply.send(outcome);
    }
}

/// The writer's end of the queue.
struct Jobs {
    jobs: Receiver<Job>,
    waiting: Arc<AtomicUsize>,
}

impl Jobs {
    /// The next job, or none when nobody can send one any more.
    fn wait(&self) -> Option<Job> {
        self.taken(self.jobs.recv().ok())
    }

    /// The next job, if there is one already.
    fn look(&self) -> Option<Job> {
        self.taken(self.jobs.try_recv().ok())
    }

    fn taken(&self, job: Option<Job>) -> Option<Job> {
        if job.is_some() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        job
    }
}

fn work(mut connection: Connection, jobs: &Jobs) {
    let mut next = None;
    while let Some(job) = next.take().or_else(|| jobs.wait()) {
        match job {
            Job::Alone(work) => work(&mut connection),
            Job::Write(first) => {
                let mut group = vec![first];
                while group.len() < limits::WRITE_GROUP_MAX {
                    match jobs.look() {
                        Some(Job::Write(job)) => group.push(job),
                        Some(alone) => {
                            next = Some(alone);
                            break;
                        }
                        None => break,
                    }
                }
                let commit = commit(&mut connection, &mut group);
                for job in group {
                    job.answer(commit.clone());
                }
            }
        }
    }
}

/// One transaction for the group, a savepoint for each member: one that fails is undone alone.
fn commit(connection: &mut Connection, group: &mut [Box<dyn Write>]) -> Result<(), StoreError> {
    // Immediate: the lock is taken before anything is read, so that what is read stays true.
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(engine)?;
    for job in group {
        execute(&transaction, "SAVEPOINT job")?;
        // A panic in one must not end the thread, or nobody could write until a restart.
        let kept = catch_unwind(AssertUnwindSafe(|| job.run(&transaction))).unwrap_or(false);
        if !kept {
            // Fails where SQLite has given up the whole transaction (a full disk): so does the
            // group.
            execute(&transaction, "ROLLBACK TO job")?;
        }
        execute(&transaction, "RELEASE job")?;
    }
    transaction.commit().map_err(engine)
}

/// Runs a statement that takes no parameters.
pub(super) fn execute(connection: &Connection, sql: &str) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    statement.execute([]).map_err(engine)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(connection: &Connection, n: i64) -> Result<(), StoreError> {
        connection
            .execute("INSERT INTO t VALUES (?1)", [n])
            .map_err(engine)?;
        Ok(())
    }

    fn rows(connection: &mut Connection) -> Result<i64, StoreError> {
        connection
            .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .map_err(engine)
    }

    fn writer() -> Writer {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE t (n INTEGER)")
            .unwrap();
        Writer::start(connection).unwrap()
    }

    #[tokio::test]
    async fn what_fails_or_panics_leaves_nothing_and_harms_nobody() {
        let writer = writer();
        let good = writer.write(|connection| insert(connection, 1));
        let bad = writer.write(|connection| {
            insert(connection, 2)?;
            Err::<(), _>(StoreError::Damaged("on purpose"))
        });
        let worse = writer.write(|connection| {
            insert(connection, 3)?;
            if connection.is_autocommit() {
                Ok(())
            } else {
                panic!("on purpose")
            }
        });
        let last = writer.write(|connection| insert(connection, 4));
        let (good, bad, worse, last) = tokio::join!(good, bad, worse, last);
        assert!(good.is_ok() && bad.is_err() && worse.is_err() && last.is_ok());
        assert_eq!(writer.alone(rows).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_full_queue_is_told_at_once() {
        let writer = writer();
        let job =
            |work: Box<dyn FnOnce() + Send>| Job::Alone(Box::new(move |_: &mut Connection| work()));
        let (begun, begins) = std::sync::mpsc::channel();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let block = move || {
            let _ = begun.send(());
            let _ = wait.recv();
        };
        writer.send(job(Box::new(block))).unwrap();
        begins.recv().unwrap();
        for _ in 0..limits::WRITE_QUEUE_MAX {
            writer.send(job(Box::new(|| {}))).unwrap();
        }
        let refused = writer.write(|connection| insert(connection, 1)).await;
        assert!(matches!(refused, Err(StoreError::Overloaded)));
        go.send(()).unwrap();
        let left = loop {
            match writer.alone(rows).await {
                Err(StoreError::Overloaded) => tokio::task::yield_now().await,
                left => break left.unwrap(),
            }
        };
        assert_eq!(left, 0, "what was refused was not done");
    }
}
