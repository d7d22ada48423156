//! The options of `open`, from JavaScript.

use super::codec::KeyFields;
use super::glue::{get, get_number, get_text};
use crate::driver::Settings;
use crate::engine::Config;
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::options::{CollectionSpec, Strategy};
use js_sys::{Array, Object};
use std::rc::Rc;
use wasm_bindgen::{JsCast, JsValue};

/// Checked options.
pub(super) struct Options {
    pub(super) database: String,
    pub(super) durability: &'static str,
    /// What the records in memory may weigh.
    pub(super) memory_bytes: f64,
    pub(super) settings: Settings,
    pub(super) keys: KeyFields,
}

fn bad(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidOptions, message)
}

fn number(object: &JsValue, field: &str, missing: f64) -> f64 {
    get_number(object, field).unwrap_or(missing)
}

fn is_whole(number: f64, min: f64, max: f64) -> bool {
    number.fract() == 0.0 && (min..=max).contains(&number)
}

/// Reads and checks the options. The loader has checked their types already.
pub(super) fn parse(options: &JsValue, has_backend: bool) -> Result<Options> {
    let text = |field| get_text(options, field);
    let named = text("database").filter(|name| !name.is_empty());
    let database = named.ok_or_else(|| bad("database: a name"))?;
    let durability = match text("durability").as_deref() {
        None | Some("relaxed") => "relaxed",
        Some("strict") => "strict",
        Some(_) => return Err(bad("durability: \"relaxed\" or \"strict\"")),
    };
    let interval_ms = number(options, "interval", limits::INTERVAL_MS);
    if !interval_ms.is_finite() || interval_ms < 0.0 {
        return Err(bad("interval: milliseconds, 0 or more"));
    }
    let attempts = number(options, "maxAttempts", f64::from(limits::ATTEMPTS_MAX));
    if !is_whole(attempts, 1.0, 1000.0) {
        return Err(bad("maxAttempts: a whole number from 1 to 1000"));
    }
    let version = number(options, "version", 1.0);
    if !is_whole(version, 1.0, f64::from(u32::MAX)) {
        return Err(bad("version: a whole number from 1"));
    }
    let memory_bytes = number(options, "memory", limits::MEMORY_BYTES);
    if memory_bytes.is_nan() || memory_bytes < 0.0 {
        return Err(bad("memory: bytes, 0 or more"));
    }
    let mut collections: Vec<CollectionSpec> = Vec::new();
    for (name, it) in entries(&get(options, "collections"))? {
        let spec = collection(&name, &it)?;
        let at = collections.partition_point(|c| c.name < spec.name);
        collections.insert(at, spec);
    }
    let keys = collections
        .iter()
        .map(|c| (c.name.clone(), c.key.clone()))
        .collect();
    Ok(Options {
        database,
        durability,
        memory_bytes,
        settings: Settings {
            collections,
            engine: Config {
                interval_ms,
                has_backend,
                auto_start: get(options, "autoStart").as_bool().unwrap_or(true),
            },
            max_attempts: attempts as u32,
            strict_rescue: durability == "strict",
            version: version as u32,
        },
        keys,
    })
}

/// The properties of an object.
fn entries(object: &JsValue) -> Result<Vec<(Rc<str>, JsValue)>> {
    let object: &Object = object
        .dyn_ref()
        .ok_or_else(|| bad("collections: an object like { sites: { key: \"id\" } }"))?;
    let mut entries = Vec::new();
    for entry in Object::entries(object).iter() {
        let entry: Array = entry.unchecked_into();
        let name = entry.get(0).as_string().unwrap_or_default();
        entries.push((name.into(), entry.get(1)));
    }
    Ok(entries)
}

fn collection(name: &Rc<str>, it: &JsValue) -> Result<CollectionSpec> {
    let odd = |field: &str, what: &str| bad(format!("collections.{name}.{field}: {what}"));
    let key = get_text(it, "key").ok_or_else(|| odd("key", "the name of the key field"))?;
    let mut spec = CollectionSpec::new(name, &key);
    if let Some(text) = get_text(it, "conflict") {
        let strategy = Strategy::parse(&text);
        let none = || odd("conflict", &format!("there is no strategy \"{text}\""));
        spec.strategy = strategy.ok_or_else(none)?;
    }
    let priority = number(it, "priority", 0.0);
    if !is_whole(priority, -1_000_000.0, 1_000_000.0) {
        return Err(odd("priority", "a whole number"));
    }
    spec.priority = priority as i32;
    let indexes = get(it, "indexes");
    if !indexes.is_undefined() {
        for fields in Array::from(&indexes).iter() {
            let mut index = Vec::new();
            for field in Array::from(&fields).iter() {
                index.push(field.as_string().unwrap_or_default().into());
            }
            spec.indexes.push(index);
        }
    }
    let references = get(it, "references");
    if !references.is_undefined() {
        for (field, parent) in entries(&references)? {
            let parent = parent.as_string().unwrap_or_default();
            spec.references.push((field, parent.into()));
        }
    }
    spec.local_only = get(it, "localOnly").as_bool().unwrap_or(false);
    spec.optimistic = get(it, "optimistic").as_bool().unwrap_or(true);
    Ok(spec)
}
