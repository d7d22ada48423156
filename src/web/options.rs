//! The options of `open`, from JavaScript.

use super::codec::KeyFields;
use crate::driver::Settings;
use crate::engine::Config;
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::options::{CollectionSpec, Strategy, check_name};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::rc::Rc;
use wasm_bindgen::JsValue;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OptionsDto {
    name: String,
    user: String,
    collections: BTreeMap<String, CollectionDto>,
    interval: Option<f64>,
    durability: Option<String>,
    max_attempts: Option<f64>,
    auto_start: Option<bool>,
    memory: Option<f64>,
    version: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CollectionDto {
    key: String,
    #[serde(default)]
    indexes: Vec<Vec<String>>,
    #[serde(default)]
    references: BTreeMap<String, String>,
    conflict: Option<String>,
    priority: Option<f64>,
    #[serde(default, rename = "localOnly")]
    local_only: bool,
    optimistic: Option<bool>,
}

/// Checked options.
pub(super) struct Options {
    pub(super) name: String,
    pub(super) user: String,
    pub(super) durability: &'static str,
    /// What the records in memory may weigh.
    pub(super) memory_bytes: f64,
    pub(super) settings: Settings,
    pub(super) keys: KeyFields,
}

fn bad(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidOptions, message)
}

/// Reads and checks the options.
pub(super) fn parse(options: JsValue, has_backend: bool) -> Result<Options> {
    let dto: OptionsDto =
        serde_wasm_bindgen::from_value(options).map_err(|e| bad(e.to_string()))?;
    check_name("name", &dto.name)?;
    check_name("user", &dto.user)?;
    let durability = match dto.durability.as_deref() {
        None | Some("relaxed") => "relaxed",
        Some("strict") => "strict",
        Some(_) => return Err(bad("durability: \"relaxed\" or \"strict\"")),
    };
    let interval_ms = dto.interval.unwrap_or(limits::INTERVAL_MS);
    if !interval_ms.is_finite() || interval_ms < 0.0 {
        return Err(bad("interval: milliseconds, 0 or more"));
    }
    let attempts = dto.max_attempts.unwrap_or(f64::from(limits::ATTEMPTS_MAX));
    if attempts.fract() != 0.0 || !(1.0..=1000.0).contains(&attempts) {
        return Err(bad("maxAttempts: a whole number from 1 to 1000"));
    }
    let version = dto.version.unwrap_or(1.0);
    if version.fract() != 0.0 || !(1.0..=f64::from(u32::MAX)).contains(&version) {
        return Err(bad("version: a whole number from 1"));
    }
    let collections = dto
        .collections
        .into_iter()
        .map(collection)
        .collect::<Result<Vec<_>>>()?;
    let keys = collections
        .iter()
        .map(|c| (c.name.clone(), c.key.clone()))
        .collect();
    let memory_bytes = dto.memory.unwrap_or(limits::MEMORY_BYTES);
    if memory_bytes.is_nan() || memory_bytes < 0.0 {
        return Err(bad("memory: bytes, 0 or more"));
    }
    let auto_start = dto.auto_start.unwrap_or(true);
    Ok(Options {
        name: dto.name,
        user: dto.user,
        durability,
        memory_bytes,
        settings: Settings {
            collections,
            engine: Config {
                interval_ms,
                has_backend,
                auto_start,
            },
            max_attempts: attempts as u32,
            strict_rescue: durability == "strict",
            version: version as u32,
        },
        keys,
    })
}

fn collection((name, dto): (String, CollectionDto)) -> Result<CollectionSpec> {
    let strategy = match dto.conflict.as_deref() {
        None => Strategy::default(),
        Some(text) => Strategy::parse(text).ok_or_else(|| {
            bad(format!(
                "collections.{name}.conflict: there is no strategy {text:?}"
            ))
        })?,
    };
    let priority = dto.priority.unwrap_or(0.0);
    if priority.fract() != 0.0 || priority.abs() > 1_000_000.0 {
        return Err(bad(format!("collections.{name}.priority: a whole number")));
    }
    let fields = |index: Vec<String>| index.into_iter().map(Rc::from).collect();
    Ok(CollectionSpec {
        key: dto.key.into(),
        indexes: dto.indexes.into_iter().map(fields).collect(),
        references: dto
            .references
            .into_iter()
            .map(|(f, c)| (f.into(), c.into()))
            .collect(),
        strategy,
        priority: priority as i32,
        local_only: dto.local_only,
        optimistic: dto.optimistic.unwrap_or(true),
        name: name.into(),
    })
}
