//! Reads log entries and segments back: every shape is checked, nothing is believed.

use super::codec::KeyFields;
use super::codec_mutation::{get_shows, mutation_from_js};
use super::glue::{self, get, get_number, get_text, name};
use super::value::{Home, Row, Rows};
use crate::conflict::{Conflict, Outcome};
use crate::error::{Code, Error, Result};
use crate::hlc::Hlc;
use crate::limits;
use crate::model::{Action, Confirmed, Key, Name, Refusal, Version};
use crate::options::Strategy;
use crate::store::{Entry, FORMAT, Fact, Gone, Keys, Made, MadeAt, Queued, Run, Said, Summary};
use js_sys::{Array, Float64Array, Object};
use std::rc::Rc;
use wasm_bindgen::{JsCast, JsValue};

pub(super) fn damaged(what: &str) -> Error {
    Error::new(
        Code::DatabaseDamaged,
        format!("a log entry is damaged: {what}"),
    )
}

fn need_number(object: &JsValue, field: &str) -> Result<f64> {
    get_number(object, field).ok_or_else(|| damaged(field))
}

pub(super) fn need_whole(object: &JsValue, field: &str) -> Result<u64> {
    whole(&get(object, field)).ok_or_else(|| damaged(field))
}

fn whole(value: &JsValue) -> Option<u64> {
    whole_number(value.as_f64()?)
}

fn whole_number(number: f64) -> Option<u64> {
    let fits = (0.0..=9_007_199_254_740_991.0).contains(&number) && number.fract() == 0.0;
    fits.then_some(number as u64)
}

fn need_text(object: &JsValue, field: &str) -> Result<Rc<str>> {
    get_text(object, field)
        .map(Rc::from)
        .ok_or_else(|| damaged(field))
}

fn need_array(object: &JsValue, field: &str) -> Result<Array> {
    get(object, field).dyn_into().map_err(|_| damaged(field))
}

fn text_list(object: &JsValue, field: &str) -> Option<Rc<[Rc<str>]>> {
    let list: Array = get(object, field).dyn_into().ok()?;
    list.iter().map(|t| t.as_string().map(Rc::from)).collect()
}

/// A record, as text or (in format 1, and in what people hand in) as an object.
pub(super) fn record(value: &JsValue) -> Result<Option<Row>> {
    let none = Rc::from("");
    if value.is_null() || value.is_undefined() {
        Ok(None)
    } else if glue::is_rows(&Array::of1(value)) {
        Ok(Some(Row::of_text(value, &none)))
    } else if value.is_object() && !Array::is_array(value) {
        Ok(Some(Row::of_object(value, &none)))
    } else {
        Err(damaged("record"))
    }
}

/// Refuses an entry that a newer version has written.
pub(super) fn check_format(entry: &JsValue) -> Result<()> {
    match whole(&get(entry, "format")) {
        Some(format) if format > u64::from(FORMAT) => Err(Error::new(
            Code::DatabaseNewer,
            format!("a log entry has format {format}; this version reads up to {FORMAT}"),
        )),
        _ => Ok(()),
    }
}

/// Reads an entry back; `segment` is its number if it is one.
pub(super) fn decode(
    entry: &JsValue,
    keys: &KeyFields,
    segment: Option<u64>,
) -> Result<Entry<Row>> {
    need_whole(entry, "format")?;
    check_format(entry)?;
    let clock = need_array(entry, "clock")?;
    let reading = |i| clock.get(i).as_f64().ok_or_else(|| damaged("clock"));
    let mut reader = Reader {
        keys,
        segment,
        run: 0,
        facts: Vec::new(),
    };
    for fact in need_array(entry, "facts")?.iter() {
        reader.read(&fact)?;
    }
    Ok(Entry {
        at_ms: need_number(entry, "at")?,
        hlc: Hlc::stored(reading(0)?, reading(1)? as u32),
        facts: reader.facts,
        summary: decode_summary(&get(entry, "summary")).ok_or_else(|| damaged("summary"))?,
    })
}

/// The rows in a segment, run by run, in the order in which [`decode`] numbers them.
pub(super) fn runs(entry: &JsValue) -> Result<Vec<JsValue>> {
    let facts = need_array(entry, "facts")?;
    let rows = facts.iter().map(|fact| get(&fact, "rows"));
    Ok(rows.filter(|rows| !rows.is_undefined()).collect())
}

/// Rows in memory, from what is stored: one text, or (in format 2) a list.
pub(super) fn rows_of(stored: &JsValue) -> Result<JsValue> {
    let rows = match stored.dyn_ref::<Array>() {
        Some(texts) => glue::is_rows(texts).then(|| glue::rows_of_texts(texts)),
        None if stored.is_string() => Some(glue::rows_of_joined(stored)),
        None => None,
    };
    rows.filter(JsValue::is_object)
        .ok_or_else(|| damaged("rows"))
}

/// Reads only the counts of an entry.
pub(super) fn decode_summary(summary: &JsValue) -> Option<Summary> {
    let count = |field| whole(&get(summary, field));
    let counts: Object = get(summary, "counts").dyn_into().ok()?;
    let counts = Object::entries(&counts);
    let counts = counts.iter().filter_map(|pair| {
        let pair: Array = pair.dyn_into().ok()?;
        Some((
            pair.get(0).as_string()?.into(),
            whole(&pair.get(1))? as usize,
        ))
    });
    Some(Summary {
        pending: count("pending")? as usize,
        conflict: count("conflict")? as usize,
        failed: count("failed")? as usize,
        next_no: count("next")?,
        counts: counts.collect(),
        pulled_ms: get_number(summary, "pulled"),
    })
}

fn action_of(fact: &JsValue) -> Result<Action> {
    get_text(fact, "action")
        .and_then(|a| Action::parse(&a))
        .ok_or_else(|| damaged("action"))
}

struct Reader<'a> {
    keys: &'a KeyFields,
    segment: Option<u64>,
    run: u32,
    facts: Vec<Fact<Row>>,
}

/// A run's records: their collection, their keys, and the rows, none for a tombstone.
struct Records {
    collection: Name,
    keys: Rc<Keys>,
    values: Vec<Option<Row>>,
}

impl Reader<'_> {
    /// `may_go`: what is not looked at may be let go, and fetched again from its segment.
    fn records(&mut self, fact: &JsValue, may_go: bool) -> Result<Records> {
        let collection: Name = need_text(fact, "collection")?;
        let old: std::result::Result<Array, _> = get(fact, "records").dyn_into();
        let key_field = self.keys.get(&collection).cloned();
        let key_field = key_field.unwrap_or_else(|| "id".into());
        let (rows, joined) = if let Ok(objects) = &old {
            // Format 1.
            if !objects.iter().all(|r| r.is_object()) {
                return Err(damaged("records"));
            }
            let field = need_text(fact, "key")?;
            let joined = glue::joined_keys(objects, &name(&field));
            (glue::rows_of_objects(objects), joined)
        } else {
            (rows_of(&get(fact, "rows"))?, get(fact, "keys"))
        };
        let texts = need_array(&rows, "texts")?;
        let joined = glue::long_text(&joined).ok_or_else(|| damaged("keys"))?;
        let keys = Rc::new(Keys::new(&joined));
        if keys.len() != texts.length() as usize {
            return Err(damaged("keys"));
        }
        let rows = Rows::new(rows, &key_field, keys.clone());
        if let (Some(segment), true) = (self.segment, may_go) {
            let run = self.run;
            rows.set_home(Home { segment, run });
        }
        self.run += 1;
        let all_there = !texts.includes(&JsValue::NULL, 0);
        let value = |at: u32| {
            let there = all_there || !texts.get(at).is_null();
            let rows = || rows.clone();
            there.then(|| Row { rows: rows(), at })
        };
        let values = (0..texts.length()).map(value).collect();
        Ok(Records {
            collection,
            keys,
            values,
        })
    }

    fn tell(&mut self, records: Records, said: Said) {
        let Records {
            collection,
            keys,
            values,
        } = records;
        let run = Run {
            collection,
            keys,
            values,
            said,
        };
        if run.values.len() < limits::RUN_MIN {
            let all = 0..run.values.len();
            self.facts.extend(all.map(|at| run.fact(at)));
        } else {
            self.facts.push(Fact::Run(Rc::new(run)));
        }
    }

    fn read(&mut self, fact: &JsValue) -> Result<()> {
        let kind = get_text(fact, "kind").ok_or_else(|| damaged("kind"))?;
        match kind.as_str() {
            "queued" => self.read_queued(fact),
            "remote" => self.read_remote(fact),
            "acked" => self.read_acked(fact),
            _ => {
                self.facts.push(read_single(&kind, fact)?);
                Ok(())
            }
        }
    }

    fn read_queued(&mut self, fact: &JsValue) -> Result<()> {
        // A fold gives what is queued no other home: the old segment goes.
        let records = self.records(fact, false)?;
        if records.values.iter().any(Option::is_none) {
            return Err(damaged("rows"));
        }
        let (made, sent) = match get(fact, "times").dyn_into::<Float64Array>() {
            Ok(times) => {
                let sent = get(fact, "sent").as_bool().ok_or_else(|| damaged("sent"))?;
                (Made::Before(made_before(&times.to_vec())?), sent)
            }
            Err(_) => (Made::Here(need_whole(fact, "first")?), false),
        };
        let queued = Queued {
            made,
            sent,
            action: action_of(fact)?,
            changed: text_list(fact, "changed"),
        };
        if !queued.is_of(records.keys.len()) {
            return Err(damaged("times"));
        }
        self.tell(records, Said::Queued(queued));
        Ok(())
    }

    fn read_remote(&mut self, fact: &JsValue) -> Result<()> {
        let records = self.records(fact, true)?;
        let versions = wholes(fact, "versions")?;
        if versions.len() != records.keys.len() {
            return Err(damaged("versions"));
        }
        let versions = versions.into_iter().map(Version).collect();
        self.tell(records, Said::Remote(versions));
        Ok(())
    }

    fn read_acked(&mut self, fact: &JsValue) -> Result<()> {
        let (numbers, versions) = (wholes(fact, "numbers")?, wholes(fact, "versions")?);
        if numbers.len() != versions.len() {
            return Err(damaged("versions"));
        }
        for (no, version) in numbers.into_iter().zip(versions) {
            self.facts.push(Fact::Acked {
                no,
                version: Version(version),
                value: None,
            });
        }
        Ok(())
    }
}

/// Numbers of mutations and when they were made: four numbers each.
fn made_before(times: &[f64]) -> Result<Rc<[MadeAt]>> {
    let (all, rest) = times.as_chunks();
    let made = all.iter().map(|&[no, ms, counter, created_ms]| {
        let fine = ms.is_finite() && created_ms.is_finite();
        let no = whole_number(no).filter(|no| fine && *no > 0)?;
        let counter = u32::try_from(whole_number(counter)?).ok()?;
        Some(MadeAt {
            no,
            at: Hlc::stored(ms, counter),
            created_ms,
        })
    });
    let made: Option<_> = made.collect();
    made.filter(|_| rest.is_empty())
        .ok_or_else(|| damaged("times"))
}

/// A list of whole numbers: a typed array, or in format 1 a list.
pub(super) fn wholes(fact: &JsValue, field: &str) -> Result<Vec<u64>> {
    let value = get(fact, field);
    let numbers = match value.dyn_into::<Float64Array>() {
        Ok(numbers) => numbers.to_vec(),
        Err(value) => {
            let list: Array = value.dyn_into().map_err(|_| damaged(field))?;
            let numbers: Option<Vec<f64>> = list.iter().map(|n| n.as_f64()).collect();
            numbers.ok_or_else(|| damaged(field))?
        }
    };
    let numbers: Option<Vec<u64>> = numbers.into_iter().map(whole_number).collect();
    numbers.ok_or_else(|| damaged(field))
}

fn read_single(kind: &str, fact: &JsValue) -> Result<Fact<Row>> {
    let no = || need_whole(fact, "number");
    Ok(match kind {
        "rewritten" => Fact::Queued {
            no: no()?,
            replaces: whole(&get(fact, "replaces")),
            collection: need_text(fact, "collection")?,
            key: need_text(fact, "key")?,
            action: action_of(fact)?,
            value: record(&get(fact, "record"))?,
            shows: get_shows(fact).map_err(damaged)?,
            changed: text_list(fact, "changed"),
            group: get_text(fact, "group").map(Rc::from),
            origin: get_text(fact, "origin").map(Rc::from),
        },
        "cancelled" => Fact::Cancelled {
            no: no()?,
            why: match (whole(&get(fact, "into")), get_text(fact, "why").as_deref()) {
                (Some(into), _) => Gone::Joined(into),
                (None, Some("lost")) => Gone::Lost,
                (None, Some("same")) => Gone::Same,
                _ => Gone::Discarded,
            },
        },
        "rebased" => Fact::Rebased { no: no()? },
        "waits" => Fact::Waits { no: no()? },
        "sent" => {
            let nos = wholes(fact, "numbers")?;
            Fact::Sent { nos }
        }
        "stored" => Fact::Acked {
            no: no()?,
            version: Version(need_whole(fact, "version")?),
            value: record(&get(fact, "record"))?,
        },
        "refused" => Fact::Refused {
            no: no()?,
            refusal: Refusal {
                code: need_text(fact, "code")?,
                message: need_text(fact, "message")?,
            },
            attempts: need_whole(fact, "attempts")? as u32,
            next_attempt_ms: get_number(fact, "nextAttemptAt"),
        },
        "tombstone" => Fact::Remote {
            collection: need_text(fact, "collection")?,
            key: need_text(fact, "key")?,
            value: record(&get(fact, "record"))?,
            version: Version(need_whole(fact, "version")?),
        },
        "checkpoint" => Fact::Checkpoint {
            checkpoint: get_text(fact, "checkpoint").map(Rc::from),
            collections: text_list(fact, "collections").ok_or_else(|| damaged("collections"))?,
        },
        "conflict" => Fact::Conflicted(Rc::new(decode_conflict(&get(fact, "conflict"))?)),
        "conflicts-cleared" => Fact::ConflictsCleared,
        "held" => {
            let held = mutation_from_js(&get(fact, "mutation"), true).map_err(damaged)?;
            Fact::Held(Box::new(held))
        }
        "local" => Fact::Local {
            collection: need_text(fact, "collection")?,
            key: need_text(fact, "key")?,
            value: record(&get(fact, "record"))?,
        },
        "rekeyed" => Fact::Rekeyed {
            collection: need_text(fact, "collection")?,
            field: need_text(fact, "field")?,
            from: need_text(fact, "from")?,
            to: need_text(fact, "to")?,
        },
        "aliases" => {
            let (from, to) = (need_text(fact, "from")?, need_text(fact, "to")?);
            let (from, to) = (glue::split(&from), glue::split(&to));
            if from.clone().count() != to.clone().count() {
                return Err(damaged("to"));
            }
            Fact::Aliases {
                collection: need_text(fact, "collection")?,
                pairs: from.map(Key::from).zip(to.map(Key::from)).collect(),
            }
        }
        "confirmed" => Fact::Confirmed {
            collection: need_text(fact, "collection")?,
            key: need_text(fact, "key")?,
            confirmed: Confirmed {
                at: need_text(fact, "confirmedAt")?,
                version: Version(need_whole(fact, "confirmedVersion")?),
            },
        },
        "schema" => {
            let version = |of: &JsValue, field: &str| {
                u32::try_from(need_whole(of, field)?).map_err(|_| damaged("version"))
            };
            let versions = get(fact, "older");
            let names = match versions.is_object() {
                true => glue::names(&versions),
                false => Array::new(),
            };
            let one = |name: JsValue| {
                let name: Name = name.as_string().unwrap_or_default().into();
                let version = version(&versions, &name)?;
                Ok((name, version))
            };
            Fact::Schema {
                version: version(fact, "version")?,
                older: names.iter().map(one).collect::<Result<_>>()?,
            }
        }
        other => return Err(damaged(other)),
    })
}

fn decode_conflict(value: &JsValue) -> Result<Conflict<Row>> {
    let strategy = need_text(value, "strategy")?;
    let outcome = need_text(value, "outcome")?;
    Ok(Conflict {
        id: need_text(value, "id")?,
        collection: need_text(value, "collection")?,
        key: need_text(value, "key")?,
        at_ms: need_number(value, "at")?,
        strategy: Strategy::parse(&strategy).ok_or_else(|| damaged("strategy"))?,
        outcome: Outcome::parse(&outcome).ok_or_else(|| damaged("outcome"))?,
        base: record(&get(value, "base"))?,
        local: record(&get(value, "local"))?,
        remote: record(&get(value, "remote"))?,
        result: record(&get(value, "result"))?,
    })
}
