//! The planted bugs ([`crate::planted`]) that do not fit into a line.

use super::{Backend, Clock, Manager};
use crate::engine::Failure;
use crate::model::{MutationNo, Refusal, Verdict};
use crate::planted::{Bug, is};
use crate::replica::plan::Intent;
use crate::store::{Entry, Fact, Store};
use crate::value::Value;

impl<V: Value, S: Store<V>, B: Backend<V>, C: Clock> Manager<V, S, B, C> {
    /// [`Bug::CheckpointBeforeRows`].
    pub(super) async fn checkpoint_first(&self, entries: &[Entry<V>]) {
        let pages = entries.iter().filter(|e| {
            let rows = e.facts.iter().any(|f| matches!(f, Fact::Remote { .. }));
            is(Bug::CheckpointBeforeRows) && rows
        });
        for entry in pages {
            let checkpoint = |f: &&Fact<V>| matches!(f, Fact::Checkpoint { .. });
            let entry = Entry {
                facts: entry.facts.iter().filter(checkpoint).cloned().collect(),
                ..entry.clone()
            };
            let after = self.0.seq.get();
            if !entry.facts.is_empty() && self.0.store.append(after, &[entry]).await.is_ok() {
                self.0.seq.set(after + 1);
            }
        }
    }

    /// [`Bug::AttemptsCountedOffline`].
    pub(super) fn blame(&self, batch: &[MutationNo], failure: &Failure) {
        if !is(Bug::AttemptsCountedOffline) || !matches!(failure, Failure::NoAnswer(_)) {
            return;
        }
        let verdict = |no: &MutationNo| {
            let refusal = Refusal {
                code: "network".into(),
                message: "no answer".into(),
            };
            let retryable = true;
            (*no, Verdict::Failed { refusal, retryable })
        };
        let verdicts = batch.iter().map(verdict).collect();
        self.submit(Intent::Verdicts(verdicts), Box::new(|_| {}));
    }
}
