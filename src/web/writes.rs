//! Writes, transactions and backups as JavaScript hands them over.

use super::codec_mutation::mutation_from_js;
use super::glue::{get, get_number, get_text};
use super::value::{Row, Rows};
use super::view::error_of;
use crate::driver::Migrate;
use crate::error::{Code, Error, Result};
use crate::model::{Key, Name};
use crate::replica::plan::{Read, Transaction, Write, WriteOptions, check_key};
use crate::replica::plan_import::{Import, Left};
use crate::shown::Names;
use crate::store::Keys;
use js_sys::{Array, Function};
use std::rc::Rc;
use wasm_bindgen::{JsCast, JsValue};

/// The numbers of a write's `kind`, as in `npm/collection.js`.
const CREATE: u8 = 0;
const PUT: u8 = 1;
const UPDATE: u8 = 2;
const DELETE: u8 = 3;
const PROMOTE: u8 = 4;

/// Writes of one kind to a collection with this key field. `keys` are those of the records, joined.
pub(super) fn all(
    kind: u8,
    items: &Array,
    key_field: Option<&Rc<str>>,
    keys: &JsValue,
) -> Result<Vec<Write<Row>>> {
    let write = match kind {
        CREATE => Write::Create,
        PUT => Write::Put,
        _ => return items.iter().map(|item| one(kind, item)).collect(),
    };
    let keys = super::glue::long_text(keys).unwrap_or_default();
    let keys = Rc::new(Keys::new(&keys));
    let none: Rc<str> = "".into();
    let field = key_field.unwrap_or(&none);
    let rows = if items.get(0).is_string() {
        Rows::of_texts(items, field, keys)
    } else {
        Rows::of_objects(items, field, keys)
    };
    let row = |at| Row {
        rows: rows.clone(),
        at,
    };
    Ok((0..items.length()).map(|at| write(row(at))).collect())
}

/// Writes that stand for themselves, as `npm/queue.js` collects them: records or patches as texts
/// (`items`), their `keys`; an update's fields are those of `shapes` (each with a U+0000 after it) at
/// `shapeOf`.
pub(super) fn each(
    kind: u8,
    run: &JsValue,
    key_field: Option<&Rc<str>>,
) -> Vec<Result<Write<Row>>> {
    let none: Rc<str> = "".into();
    let keys = super::glue::long_text(&get(run, "keys")).unwrap_or_default();
    let items: Array = get(run, "items").unchecked_into();
    let shapes: Array = get(run, "shapes").unchecked_into();
    let shape_of = get(run, "shapeOf").unchecked_into::<js_sys::Uint32Array>();
    let shape_of = shape_of.to_vec();
    let keys = Rc::new(Keys::new(&keys));
    let rows = Rows::of_texts(&items, key_field.unwrap_or(&none), keys.clone());
    let names = |shape: JsValue| -> Names {
        let joined = shape.as_string().unwrap_or_default();
        super::glue::split(&joined).map(Rc::from).collect()
    };
    let shapes: Vec<Names> = shapes.iter().map(names).collect();
    let no_names: Names = Rc::from([]);
    let write = |(key, at): (&str, u32)| {
        let row = Row {
            rows: rows.clone(),
            at,
        };
        Ok(match kind {
            CREATE => Write::Create(row),
            PUT => Write::Put(row),
            _ => {
                check_key(key)?;
                let shape = shape_of.get(at as usize).copied().unwrap_or(0);
                Write::Update {
                    key: key.into(),
                    patch: row,
                    changed: shapes.get(shape as usize).unwrap_or(&no_names).clone(),
                }
            }
        })
    };
    keys.iter().zip(0..items.length()).map(write).collect()
}

/// A record or a patch of its own: an object, or its text.
pub(super) fn row(item: &JsValue) -> Row {
    let none = "".into();
    if item.is_string() {
        Row::of_text(item, &none)
    } else {
        Row::of_object(item, &none)
    }
}

fn one(kind: u8, item: JsValue) -> Result<Write<Row>> {
    Ok(match kind {
        CREATE => Write::Create(row(&item)),
        PUT => Write::Put(row(&item)),
        UPDATE => {
            let parts: Array = item.unchecked_into();
            let names: Array = parts.get(2).unchecked_into();
            let changed = names.iter().filter_map(|n| n.as_string()).map(Rc::from);
            Write::Update {
                key: key(&parts.get(0))?,
                patch: row(&parts.get(1)),
                changed: changed.collect(),
            }
        }
        DELETE => Write::Delete(key(&item)?),
        PROMOTE => Write::Promote(key(&item)?),
        _ => return Err(Error::new(Code::InvalidOptions, "there is no such write")),
    })
}

fn key(key: &JsValue) -> Result<Key> {
    let text = key.as_string().ok_or_else(|| {
        let kind = get_text(&get(key, "constructor"), "name").unwrap_or_default();
        Error::new(Code::InvalidKey, format!("a key is a string, not a {kind}"))
    })?;
    check_key(&text)?;
    Ok(text.into())
}

/// `{ localOnly, optimistic }`; what is missing is as the collection declares.
pub(super) fn options(options: &JsValue) -> WriteOptions {
    WriteOptions {
        local_only: get(options, "localOnly").as_bool(),
        optimistic: get(options, "optimistic").as_bool(),
    }
}

fn collection(name: &JsValue) -> Name {
    name.as_string().unwrap_or_default().into()
}

/// A transaction; the shapes are those of `Core::transact`.
pub(super) fn transaction(
    writes: &Array,
    reads: &Array,
    grouped: bool,
) -> Result<Transaction<Row>> {
    let write = |parts: JsValue| {
        let parts: Array = parts.unchecked_into();
        let kind = parts.get(1).as_f64().unwrap_or(-1.0) as u8;
        let write = one(kind, parts.get(2))?;
        Ok((collection(&parts.get(0)), write, options(&parts.get(3))))
    };
    let read = |parts: JsValue| {
        let parts: Array = parts.unchecked_into();
        Ok(Read {
            collection: collection(&parts.get(0)),
            key: key(&parts.get(1))?,
            value: Some(parts.get(2))
                .filter(JsValue::is_object)
                .map(|v| row(&v)),
            newest: parts.get(3).is_truthy(),
        })
    };
    Ok(Transaction {
        writes: writes.iter().map(write).collect::<Result<_>>()?,
        reads: reads.iter().map(read).collect::<Result<_>>()?,
        grouped,
    })
}

/// The mutations of a backup; the first fault refuses them all. Of a rescue copy (`late`) what cannot be
/// read is left, with all of its record.
pub(super) fn import(
    client: &str,
    mutations: &Array,
    late: bool,
) -> Result<(Import<Row>, Vec<Option<u32>>, Left)> {
    let mut held = Vec::with_capacity(mutations.length() as usize);
    let (mut left, mut strange) = (Left::default(), Vec::new());
    for (at, mutation) in mutations.iter().enumerate() {
        match mutation_from_js(&mutation, false) {
            Ok(one) => held.push((one, get_number(&mutation, "dataVersion").map(|v| v as u32))),
            Err(field) => {
                let message = format!("backup: mutations[{at}].{field} is not as it was exported");
                let error = Error::new(Code::InvalidOptions, message);
                if !late {
                    return Err(error);
                }
                left.why.get_or_insert(error);
                left.nos
                    .extend(get_number(&mutation, "number").map(|no| no as u64));
                strange.push((
                    get_text(&mutation, "collection"),
                    get_text(&mutation, "key"),
                ));
            }
        }
    }
    held.retain(|(one, _)| {
        let m = &one.mutation;
        let same = |text: &Option<String>, name: &str| text.as_deref().is_none_or(|t| t == name);
        let stays = !{ strange.iter() }
            .any(|(c, key)| key.is_some() && same(c, &m.collection) && same(key, &m.key));
        left.nos.extend((!stays).then_some(one.mutation.no));
        stays
    });
    let (held, versions) = held.into_iter().unzip();
    let import = Import {
        client: client.into(),
        mutations: held,
        late,
        left: late.then(Rc::default),
        schema: None,
    };
    Ok((import, versions, left))
}

/// The app's migration; records stay as they are where there is none.
pub(super) fn migration(migrate: JsValue) -> Migrate<Row> {
    let migrate = migrate.dyn_into::<Function>().ok();
    Box::new(move |name, record, from| {
        let Some(migrate) = &migrate else {
            return Ok(record.clone());
        };
        let name = super::glue::name(name);
        // A copy: the app may change it in place.
        let new = migrate.call3(&JsValue::UNDEFINED, &name, &record.copy(), &from.into());
        let new = new.map_err(|thrown| error_of(&thrown))?;
        if new.is_object() || new.is_string() {
            Ok(row(&new))
        } else {
            Err(Error::new(
                Code::InvalidRecord,
                "migrate did not return a record",
            ))
        }
    })
}
