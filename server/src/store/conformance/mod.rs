//! What every store must do, whatever it is made of. A store's own tests call [`conformance!`] with
//! an expression that makes an empty one.

pub(crate) mod atomic;
pub(crate) mod batches;
pub(crate) mod conflicts;
pub(crate) mod moves;
pub(crate) mod pages;
pub(crate) mod random;
pub(crate) mod retention;
pub(crate) mod spaces;
pub(crate) mod users;

pub(crate) use std::sync::Arc;

pub(crate) use serde_json::value::RawValue;

pub(crate) use super::feed::News;
pub(crate) use super::{
    Choice, ConflictId, Mode, Outcome, Page, PullQuery, Resolution, Resolved, Seeded, Store,
    StoreError, Verdict,
};
pub(crate) use crate::access::{Access, Sharing, Space};
pub(crate) use crate::change::{Change, Edit, Failure, FailureCode};
pub(crate) use crate::data::RecordData;
pub(crate) use crate::ids::{
    ClientId, EntityId, MutationId, RecordId, RecordType, Stamp, UnixMillis, UserId, Version,
};
pub(crate) use crate::limits;
pub(crate) use crate::wire::PulledRecord;

macro_rules! conformance {
    ($make:expr) => {
        conformance!(@each $make;
            batches::answers_in_order_and_each_by_itself
            batches::a_repeat_gets_the_first_result
            batches::concurrent_repeats_take_effect_once
            batches::a_mutation_id_stands_for_one_record
            batches::the_feed_tells_where_there_are_new_changes
            users::users_are_apart
            users::seeds_only_what_is_empty
            users::assignments_are_kept_and_bounded
            pages::pages_follow_the_commits
            pages::a_record_appears_once_in_its_newest_state
            pages::types_filter_and_the_checkpoint_moves
            pages::pages_are_bounded_in_bytes
            pages::unknown_checkpoints_are_refused
            pages::readers_miss_nothing_under_concurrent_writers
            spaces::an_entitys_records_are_theirs_who_are_assigned
            spaces::a_foreign_record_cannot_be_touched_nor_told_from_none
            spaces::a_record_cannot_be_taken_to_a_foreign_entity
            spaces::a_shared_record_needs_its_entity
            spaces::private_and_shared_ids_do_not_collide
            spaces::a_page_takes_from_all_spaces
            spaces::no_space_starves_the_others
            spaces::a_new_entity_begins_at_its_beginning
            spaces::what_was_closed_makes_the_checkpoint_unknown
            spaces::a_repeat_tells_nothing_that_was_closed
            moves::a_moved_record_is_gone_for_those_who_see_only_the_old_place
            moves::a_moved_record_comes_back
            moves::who_sees_both_places_sees_no_tombstone
            moves::readers_miss_nothing_while_records_move
            conflicts::conflicts_answer_with_the_record_and_are_logged
            conflicts::local_applies_the_refused_change
            conflicts::remote_and_merged_settle_once
            conflicts::a_partial_change_of_a_deleted_record_needs_the_whole
            conflicts::only_ones_own_conflicts_are_there
            conflicts::a_conflict_whose_record_is_closed_is_hidden
            conflicts::a_later_change_of_the_client_settles_its_conflicts
            conflicts::the_log_has_pages
            atomic::all_or_nothing
            atomic::refusals_are_remembered_and_the_rest_may_be_sent_again
            atomic::a_batch_that_contradicts_itself_is_refused_for_good
            atomic::a_doomed_batch_has_no_effect
            atomic::concurrent_repeats_take_effect_once_together
            retention::old_tombstones_go_and_raise_the_floor
            retention::a_reader_who_begins_after_a_purge_comes_to_the_end
            retention::results_go_and_open_conflicts_stay
            retention::open_conflicts_go_after_their_results
            retention::traces_of_moves_go_too
            retention::a_step_is_bounded
            random::stories_end_as_the_model_says
        );
    };
    (@each $make:expr; $($part:ident :: $name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                let (store, _keep) = $make;
                $crate::store::conformance::$part::$name(std::sync::Arc::new(store)).await;
            }
        )*
    };
}
pub(crate) use conformance;

pub(crate) type Shared<S> = Arc<S>;

pub(crate) const NOW: UnixMillis = UnixMillis(1_763_690_000_000);

pub(crate) fn user(name: &str) -> Access {
    Access::own(UserId::new(name).unwrap())
}

pub(crate) fn data(text: &str) -> RecordData {
    RecordData::check(RawValue::from_string(text.into()).unwrap()).unwrap()
}

pub(crate) fn change(mutation: &str, record: &str, base: u64, edit: Edit) -> Change {
    Change {
        mutation: MutationId::new(mutation).unwrap(),
        client: ClientId::new("c1").unwrap(),
        record_type: RecordType::new("sites").unwrap(),
        record: RecordId::new(record).unwrap(),
        base: Version(base),
        at: Stamp::new("1763690000000-0000-c1").unwrap(),
        sharing: Sharing::Private,
        edit,
    }
}

pub(crate) fn create(mutation: &str, record: &str) -> Change {
    change(
        mutation,
        record,
        0,
        Edit::Create(data(&format!("{{\"by\":\"{mutation}\"}}"))),
    )
}

pub(crate) fn update(mutation: &str, record: &str, base: u64) -> Change {
    change(
        mutation,
        record,
        base,
        Edit::Replace(data(&format!("{{\"by\":\"{mutation}\"}}"))),
    )
}

pub(crate) fn delete(mutation: &str, record: &str, base: u64) -> Change {
    change(mutation, record, base, Edit::Delete)
}

pub(crate) fn since(checkpoint: Option<&str>, limit: usize) -> PullQuery {
    PullQuery {
        since: checkpoint.map(Into::into),
        limit,
        types: None,
    }
}

pub(crate) fn success(version: u64) -> Verdict {
    Verdict::Success(Version(version))
}

pub(crate) fn ids(records: &[PulledRecord]) -> Vec<&str> {
    records.iter().map(|record| record.id.as_str()).collect()
}

pub(crate) async fn push(
    store: &impl Store,
    access: &Access,
    changes: Vec<Change>,
) -> Vec<Verdict> {
    store.push(access, changes, Mode::Each, NOW).await.unwrap()
}

/// A user who is assigned to these entities.
pub(crate) fn team(name: &str, entities: &[&str]) -> Access {
    let entities = entities.iter().map(|name| entity(name)).collect();
    Access::new(UserId::new(name).unwrap(), entities).unwrap()
}

pub(crate) fn entity(name: &str) -> EntityId {
    EntityId::new(name).unwrap()
}

/// How the records of the type `tasks` are shared.
pub(crate) fn by_site() -> Sharing {
    Sharing::Entity("site".into())
}

/// A change of a record that is shared by its field `site`.
pub(crate) fn task(mutation: &str, record: &str, base: u64, edit: Edit) -> Change {
    Change {
        record_type: RecordType::new("tasks").unwrap(),
        sharing: by_site(),
        ..change(mutation, record, base, edit)
    }
}

/// The content of a task at a site.
pub(crate) fn at(site: &str, by: &str) -> RecordData {
    data(&format!("{{\"site\":\"{site}\",\"by\":\"{by}\"}}"))
}

pub(crate) fn create_task(mutation: &str, record: &str, site: &str) -> Change {
    task(mutation, record, 0, Edit::Create(at(site, mutation)))
}

pub(crate) fn update_task(mutation: &str, record: &str, base: u64, site: &str) -> Change {
    task(mutation, record, base, Edit::Replace(at(site, mutation)))
}

pub(crate) fn patch(text: &str, changed: &[&str]) -> Edit {
    Edit::Patch {
        data: data(text),
        changed: changed.iter().map(ToString::to_string).collect(),
    }
}

pub(crate) fn forbidden() -> Verdict {
    Verdict::Failed(Failure::forbidden())
}

pub(crate) fn code(verdict: &Verdict) -> Option<FailureCode> {
    match verdict {
        Verdict::Failed(failure) => Some(failure.code),
        _ => None,
    }
}

pub(crate) fn conflict_id(verdict: &Verdict) -> ConflictId {
    match verdict {
        Verdict::Conflict { id, .. } => *id,
        _ => panic!("{verdict:?}"),
    }
}

/// Everything from the beginning, in one page.
pub(crate) async fn all(store: &impl Store, access: &Access) -> Page {
    let page = store.pull(access, since(None, 1000)).await.unwrap();
    assert!(!page.has_more);
    page
}

/// What is new since a page, in one page.
pub(crate) async fn news(store: &impl Store, access: &Access, last: &Page) -> Page {
    let query = since(Some(&last.checkpoint), 1000);
    let page = store.pull(access, query).await.unwrap();
    assert!(!page.has_more);
    page
}
