//! The way between a tab and the server, with everything that can happen on it.
//!
//! A request is the network's once it is sent: it arrives, late or twice, whether the tab still
//! lives or not.

use super::exec::WORLD;
use super::keys;
use super::oracle;
use super::record::Record;
use super::server::{Poison, Server};
use super::world::World;
use futures_channel::oneshot;
use landfall::driver::{Backend, Call, PushAnswer};
use landfall::engine::Failure;
use landfall::error::{Code, Error};
use landfall::model::{Change, Page, Refusal, Verdict};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// It never arrives.
    Lost,
    /// It takes effect, but the answer does not come back.
    AnswerLost,
    /// It arrives now and once more so many ms later.
    Twice(u64),
    /// It arrives so many ms late, after others.
    Late(u64),
    /// This status comes instead; nothing is applied.
    Status(u16, Option<u64>),
    /// Nothing ever comes back; it takes effect.
    Hangs,
    /// One result is missing.
    ShortAnswer,
    /// The results belong to other changes.
    ForeignAnswer,
}

type Results = Vec<(Rc<str>, Verdict<Record>)>;

/// One tab's way to the server.
pub(crate) struct SimBackend {
    world: Rc<World>,
    client: usize,
    tab: usize,
}

/// A request under way, as the tab sees it.
struct Under<'a>(&'a SimBackend);

impl Drop for Under<'_> {
    fn drop(&mut self) {
        let client = &self.0.world.clients[self.0.client];
        let mut live = client.live.borrow_mut();
        if let Some(n) = live.get_mut(&self.0.tab) {
            *n -= 1;
        }
    }
}

fn no_answer() -> Failure {
    Failure::NoAnswer(Error::new(Code::Network, "cut"))
}

impl SimBackend {
    pub(crate) fn new(world: &Rc<World>, client: usize, tab: usize) -> Self {
        Self {
            world: world.clone(),
            client,
            tab,
        }
    }

    fn begin(&self) -> Under<'_> {
        let mut live = self.world.clients[self.client].live.borrow_mut();
        *live.entry(self.tab).or_default() += 1;
        let others = live.iter().any(|(tab, n)| *tab != self.tab && *n > 0);
        if others {
            let (client, tab) = (self.client, self.tab);
            self.world.violated("two leaders send at once", || {
                format!("c{client}: tab {tab} sends while another does")
            });
        }
        Under(self)
    }

    /// The way there and back; `serve` is the server's part, and may be asked twice.
    async fn travel<T: 'static>(
        &self,
        call: &Call,
        serve: impl Fn(&Rc<World>, usize) -> Result<T, Failure> + 'static,
    ) -> Result<(T, Option<Fault>), Failure> {
        let _under = self.begin();
        let world = self.world.clone();
        let index = self.client;
        let client = &world.clients[index];
        let set = client.clock_set.get();
        let fault = client.faults.borrow_mut().pop_front();
        world.say(|| format!("c{index} tab {} sends, {fault:?}", self.tab));
        if client.cut.get() || fault == Some(Fault::Lost) {
            world.exec.sleep(world.chance.below(50)).await;
            return Err(no_answer());
        }
        let (tell, told) = oneshot::channel();
        let refresh = call.refresh;
        let network = world.clone();
        // A server purges what is months old: no request is under way for so long.
        let purges = world.server.borrow().purges();
        world.exec.spawn(WORLD, async move {
            let world = network;
            let late = match fault {
                Some(Fault::Late(ms)) => ms,
                _ => 0,
            };
            let way = || 1 + world.chance.below(world.latency_ms);
            let ghost = (late > 0).then(|| Ghost::new(&world));
            world.exec.sleep(way() + late).await;
            drop(ghost);
            let in_time = move |world: &World| world.server.borrow().purges() == purges;
            let answer = if in_time(&world) {
                arrive(&world, index, refresh, fault).and_then(|()| serve(&world, index))
            } else {
                Err(no_answer())
            };
            if let Some(Fault::Twice(after_ms)) = fault {
                let (world, answered) = (world.clone(), answer.is_ok());
                let (exec, ghost) = (world.clone(), Ghost::new(&world));
                exec.exec.spawn(WORLD, async move {
                    let _ghost = ghost;
                    world.exec.sleep(after_ms).await;
                    if answered && in_time(&world) && !world.server.borrow().down {
                        let _ = serve(&world, index);
                    }
                });
            }
            match fault {
                Some(Fault::AnswerLost) => {
                    world.exec.sleep(way()).await;
                    let _ = tell.send(Err(no_answer()));
                }
                Some(Fault::Hangs) => std::future::pending::<()>().await,
                _ => {
                    world.exec.sleep(way()).await;
                    let _ = tell.send(answer);
                }
            }
        });
        let answer = match told.await {
            Ok(answer) => answer?,
            Err(_) => return std::future::pending().await,
        };
        if client.clock_set.get() == set && !is_garbled(fault) {
            self.corrected(set);
        }
        Ok((answer, fault))
    }

    /// From now on this tab knows how wrong its clock is.
    fn corrected(&self, set: u64) {
        let now_ms = self.world.exec.now_ms();
        let client = &self.world.clients[self.client];
        let mut corrected = client.corrected.borrow_mut();
        let known = corrected.entry(self.tab).or_insert((set, now_ms));
        if known.0 != set {
            *known = (set, now_ms);
        }
    }

    fn server_ms(&self) -> Option<f64> {
        // `Date` has whole seconds.
        Some((self.world.true_ms() / 1000.0).floor() * 1000.0)
    }
}

/// A request that is still to arrive, though whoever sent it may have given it up.
struct Ghost(Rc<World>);

impl Ghost {
    fn new(world: &Rc<World>) -> Self {
        world.ghosts.set(world.ghosts.get() + 1);
        Self(world.clone())
    }
}

impl Drop for Ghost {
    fn drop(&mut self) {
        self.0.ghosts.set(self.0.ghosts.get() - 1);
    }
}

fn is_garbled(fault: Option<Fault>) -> bool {
    matches!(fault, Some(Fault::ShortAnswer | Fault::ForeignAnswer))
}

/// What is decided before anybody looks at what a request carries.
fn arrive(
    world: &Rc<World>,
    index: usize,
    refresh: bool,
    fault: Option<Fault>,
) -> Result<(), Failure> {
    let client = &world.clients[index];
    let server = world.server.borrow();
    if server.down {
        return Err(no_answer());
    }
    if client.locked_out.get() || (client.expired.get() && !refresh) {
        return Err(Failure::Auth);
    }
    if refresh {
        client.expired.set(false);
    }
    match fault {
        Some(Fault::Status(status, after)) => {
            let after_ms = after.map(|ms| ms as f64);
            Err(Failure::from_status(status, after_ms, "", "a fault"))
        }
        _ => Ok(()),
    }
}

/// Changes that could take effect, but for others of their group.
fn aborted(
    world: &World,
    server: &Server,
    (user, client): (usize, &Rc<str>),
    changes: &[Change<Record>],
) -> BTreeSet<String> {
    let mut aborted = BTreeSet::new();
    let groups: BTreeSet<_> = changes.iter().filter_map(|c| c.group.clone()).collect();
    for group in groups.iter().filter(|_| world.atomic.get()) {
        let members = changes.iter().filter(|c| c.group.as_ref() == Some(group));
        let members: Vec<_> = members.map(keys::received).collect();
        let refused = server.refuses(user, client, &members);
        if refused.contains(&true) {
            let others = members.iter().zip(refused).filter(|(_, refused)| !refused);
            aborted.extend(others.map(|(c, _)| c.id.clone()));
        }
    }
    // What took effect before keeps its result.
    aborted.retain(|id| !server.has_answered(id));
    aborted
}

fn serve_push(
    world: &Rc<World>,
    index: usize,
    id: &Rc<str>,
    changes: &[Change<Record>],
) -> Result<Results, Failure> {
    let mut server = world.server.borrow_mut();
    world.trace.mark(changes.len() as u64);
    if server.batch_max.is_some_and(|max| changes.len() > max) {
        return Err(Failure::from_status(413, None, "too-large", "too large"));
    }
    let poisoned =
        |c: &Change<Record>| server.poison.get(&keys::plain(&c.key)) == Some(&Poison::Request);
    if changes.iter().any(poisoned) {
        for change in changes {
            *server.blamed.entry(change.id.clone()).or_default() += 1;
        }
        return Err(Failure::from_status(400, None, "malformed", "malformed"));
    }
    let user = world.clients[index].user;
    let aborted = aborted(world, &server, (user, id), changes);
    let mut results = Vec::with_capacity(changes.len());
    for came in changes {
        let change = &keys::received(came);
        oracle::arrived(world, &server, index, change, changes);
        let effects = server.effects.len();
        let company = aborted.contains(&came.id).then(|| {
            *server.blamed.entry(came.id.clone()).or_default() += 1;
            Verdict::Failed {
                refusal: Refusal {
                    code: "aborted".into(),
                    message: "no".into(),
                },
                retryable: true,
            }
        });
        let unknown = || {
            let refused = keys::unknown(world, came)?;
            *server.blamed.entry(came.id.clone()).or_default() += 1;
            Some(refused)
        };
        let verdict = company.or_else(unknown);
        let verdict =
            verdict.unwrap_or_else(|| server.apply((user, id, index), change, world.exec.now_ms()));
        let fresh = server.effects.len() > effects;
        world.trace.mark_text(&change.id);
        world.say(|| {
            let (c, k) = (&change.collection, &change.key);
            let data = change.data.as_ref().map(|d| d.anyhow().to_string());
            let answer = match &verdict {
                Verdict::Success { version, .. } => format!("success {}", version.0),
                Verdict::Conflict { version, at, .. } => format!("conflict {} {at:?}", version.0),
                Verdict::Failed { refusal, .. } => format!("failed {}", refusal.code),
                Verdict::Rekeyed { .. } => "another key".into(),
            };
            let (id, action, base) = (&change.id, change.action.as_str(), change.version.0);
            let at = &change.at;
            format!("server: {id} {action} {c}/{k} on {base} at {at} {data:?} → {answer}")
        });
        oracle::answered(world, index, change, &verdict, fresh);
        results.push((
            change.id.as_str().into(),
            keys::answer(world, came, verdict),
        ));
    }
    Ok(results)
}

impl Backend<Record> for SimBackend {
    async fn push(
        &self,
        changes: &[Change<Record>],
        call: &Call,
    ) -> Result<PushAnswer<Record>, Failure> {
        // What is on the wire does not share memory with the tab.
        let sent: Vec<Change<Record>> = changes.to_vec();
        let ids: Vec<String> = changes.iter().map(|c| c.id.clone()).collect();
        let id = call.client.clone();
        let served = Cell::new(false);
        let left_ms = self.world.exec.now_ms();
        let asked = self
            .travel(call, move |world, index| {
                // What was to come once more is over by the time that a repeat gets through, and what
                // was on its way by the time that a deletion does: nobody could tell whether that was
                // meant.
                let server = world.server.borrow();
                let known = || sent.iter().all(|change| server.has_answered(&change.id));
                let deleted = |change: &Change<Record>| {
                    let whose = (index, (change.collection.clone(), keys::plain(&change.key)));
                    let oracle = world.oracle.borrow();
                    oracle
                        .deleted_ms
                        .get(&whose)
                        .is_some_and(|at| *at > left_ms)
                };
                if (served.replace(true) || sent.iter().any(deleted)) && !known() {
                    return Err(no_answer());
                }
                drop(server);
                serve_push(world, index, &id, &sent)
            })
            .await;
        let (mut results, fault) = match asked {
            Ok(answer) => answer,
            Err(failure) => {
                if let Failure::Refused { .. } = failure {
                    // Whoever is alone in a refused request is blamed for it.
                    let mut server = self.world.server.borrow_mut();
                    for id in ids {
                        *server.blamed.entry(id).or_default() += 1;
                    }
                }
                return Err(failure);
            }
        };
        match fault {
            Some(Fault::ShortAnswer) => drop(results.pop()),
            Some(Fault::ForeignAnswer) => results[0].0 = "somebody.7".into(),
            _ => {}
        }
        Ok(PushAnswer {
            results,
            server_ms: self.server_ms(),
        })
    }

    async fn pull(
        &self,
        checkpoint: Option<&str>,
        limit: usize,
        call: &Call,
    ) -> Result<Page<Record>, Failure> {
        let since = checkpoint.map(str::to_owned);
        let (mut page, fault) = self
            .travel(call, move |world, index| {
                let limit = limit.min(world.page_max);
                let user = world.clients[index].user;
                let page = world.server.borrow().page(user, since.as_deref(), limit);
                let page = page.map(|page| keys::page(world, page));
                page.ok_or(Failure::CheckpointUnknown)
            })
            .await?;
        if is_garbled(fault) {
            return Err(Failure::Protocol("no page".into()));
        }
        page.server_ms = self.server_ms();
        Ok(page)
    }
}
