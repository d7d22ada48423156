//! Functions that are alike stand together in the wasm: compression looks back no further than 32 KB, and
//! finds there what it has seen before.
//!
//! An order is only chosen here, and told by names (`00017`); wasm-opt sorts by them, and takes them off. From
//! the largest function on, the next one is always that which has most in common with those before it,
//! for its length: five bytes that stand in both, the rarer the better, the nearer the better.

use std::collections::{HashMap, HashSet};

use crate::shorten::{put_name, put_number};
use crate::wasm_sections::{CODE, CUSTOM, FUNCTION_NAMES, HEADER, IMPORT, Reader};

/// Bytes that count as one thing in common.
const PIECE: usize = 5;
/// What is in more functions than this tells nothing.
const COMMON_MAX: usize = 1_000;
/// How far back in bytes what was seen counts for less than half.
const NEAR_BYTES: f64 = 8_000.0;

/// The module with names for its functions that sort into the order in which it compresses best. `None` if it
/// is not a wasm module.
pub(crate) fn named_in_order(module: &[u8]) -> Option<Vec<u8>> {
    let mut rest = Reader(module.strip_prefix(HEADER)?);
    let mut out = HEADER.to_vec();
    let mut imported = 0;
    let mut bodies = Vec::new();
    while !rest.0.is_empty() {
        let id = rest.byte()?;
        let length = rest.number()?;
        let section = rest.take(length)?;
        let mut reader = Reader(section);
        match id {
            IMPORT => imported = reader.imported_functions()?,
            CODE => {
                for _ in 0..reader.number()? {
                    let length = reader.number()?;
                    bodies.push(reader.take(length)?);
                }
            }
            CUSTOM if reader.name()? == "name" => continue,
            _ => {}
        }
        put_section(&mut out, id, section);
    }
    let mut places = vec![0; bodies.len()];
    for (place, function) in order(&bodies).into_iter().enumerate() {
        *places.get_mut(function)? = place;
    }
    let mut names = Vec::new();
    put_number(&mut names, places.len());
    for (function, place) in places.into_iter().enumerate() {
        put_number(&mut names, imported + function);
        put_name(&mut names, &format!("{place:05}"));
    }
    let mut section = Vec::new();
    put_name(&mut section, "name");
    put_section(&mut section, FUNCTION_NAMES, &names);
    put_section(&mut out, CUSTOM, &section);
    Some(out)
}

fn put_section(out: &mut Vec<u8>, id: u8, content: &[u8]) {
    out.push(id);
    put_number(out, content.len());
    out.extend(content);
}

/// The numbers of the functions with these bodies, in their new order.
fn order(bodies: &[&[u8]]) -> Vec<usize> {
    let pieces: Vec<HashSet<&[u8]>> = bodies.iter().map(|b| b.windows(PIECE).collect()).collect();
    let mut owners: HashMap<&[u8], Vec<usize>> = HashMap::new();
    for (function, pieces) in pieces.iter().enumerate() {
        for piece in pieces {
            owners.entry(piece).or_default().push(function);
        }
    }
    let mut left: Vec<bool> = vec![true; bodies.len()];
    let mut in_common = vec![0.0; bodies.len()];
    let mut order = Vec::with_capacity(bodies.len());
    // The first of the largest.
    let mut next = (0..bodies.len()).rev().max_by_key(|f| bodies[*f].len());
    while let Some(function) = next {
        order.push(function);
        left[function] = false;
        let fades = (-(bodies[function].len() as f64) / NEAR_BYTES).exp();
        in_common.iter_mut().for_each(|sum| *sum *= fades);
        // Sums of fractions depend on their order, and that of a set is another one each time.
        let mut shared: Vec<&[u8]> = pieces[function].iter().copied().collect();
        shared.sort_unstable();
        for piece in shared {
            let owners = &owners[piece];
            if (2..COMMON_MAX).contains(&owners.len()) {
                let rare = (1.0 + owners.len() as f64).log2().powi(-2);
                owners.iter().for_each(|owner| in_common[*owner] += rare);
            }
        }
        let fits = |f: &usize| in_common[*f] / (bodies[*f].len() as f64).sqrt();
        let best = (0..bodies.len()).rev().filter(|f| left[*f]);
        next = best.max_by(|a, b| fits(a).total_cmp(&fits(b)));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_alike_stands_together() {
        let (a, b) = (b"what a long function it is", b"0123456789abcdef");
        let bodies: [&[u8]; 5] = [&b[..], &a[1..], &b[3..], a, b"another thing"];
        assert_eq!(order(&bodies), [3, 1, 0, 2, 4]);
        assert_eq!(order(&[]), [0usize; 0]);
    }

    #[test]
    fn every_function_gets_a_name_and_nothing_else_changes() {
        let mut module = HEADER.to_vec();
        // One imported function, so that ours are 1 and 2.
        module.extend([2, 7, 1, 1, b'e', 1, b'f', 0, 0]);
        module.extend([10, 8, 2, 2, 0, 0x0b, 3, 0, 0x01, 0x0b]);
        let bare = module.clone();
        module.extend([0, 12, 4, b'n', b'a', b'm', b'e', 1, 5, 1, 1, 2, b'g', b'o']);
        let named = named_in_order(&module).expect("it is a module");
        let names = named
            .strip_prefix(&bare[..])
            .expect("the rest is as it was");
        let expected = [
            &[0, 22, 4][..],
            b"name",
            &[1, 15, 2, 1, 5],
            b"00001",
            &[2, 5],
            b"00000",
        ];
        assert_eq!(names, expected.concat());
        assert_eq!(named_in_order(b"hello"), None);
    }
}
