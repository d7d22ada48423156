//! A checkpoint as a client sends it: read against spaces whose heads come from the input as well. What
//! is accepted must read back as the same positions.
#![no_main]

use landfall_server::access::Space;
use landfall_server::ids::{EntityId, UserId};
use landfall_server::store::checkpoint::{DatabaseId, Head};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, u16, u16, &str)| {
    let (first, second, floor, text) = input;
    let id = DatabaseId::from_stored("00112233445566778899aabbccddeeff".into());
    let head = |seq: u16| Head {
        seq: seq.into(),
        floor: floor.min(seq).into(),
    };
    let heads = [
        (Space::Own(UserId::new("ann").expect("a user")), head(first)),
        (Space::Entity(EntityId::new("e1").expect("an entity")), head(second)),
    ];
    // One of our own, with something behind it: the hashes of spaces are not to be guessed.
    let mut own = id.positions(None, heads.clone()).expect("from the beginning");
    for position in &mut own {
        position.seq = position.head.seq / 2;
    }
    let begun = format!("{}{text}", id.checkpoint(&own));
    for since in [text.to_owned(), format!("{}-{text}", id.as_str()), begun] {
        let Ok(positions) = id.positions(Some(&since), heads.clone()) else {
            continue;
        };
        assert!(positions.iter().all(|position| position.seq <= position.head.seq));
        let again = id.positions(Some(&id.checkpoint(&positions)), heads.clone());
        let seen = |positions: &[landfall_server::store::checkpoint::Position]| -> Vec<u64> {
            positions.iter().map(|position| position.seq).collect()
        };
        let again = again.expect("a checkpoint of our own");
        assert_eq!(seen(&again), seen(&positions), "{since}");
    }
});
