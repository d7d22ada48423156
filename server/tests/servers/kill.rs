//! `kill -9` of the server during batches; it is started again, and the clients finish: nothing is
//! lost, nothing happens twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::harness::{Client, Reader, Server, Storage, Writer};

/// Two devices of one user, and two users more.
const WHO: [(&str, &str); 4] = [("ann", "a1"), ("ann", "a2"), ("bob", "b1"), ("cid", "c1")];
const KILLS: u64 = 6;

async fn nothing_lost_and_nothing_twice(mut storage: Storage) {
    let mut server = Server::start(&storage, None);
    let url = server.url.clone();
    let killed = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = WHO
        .iter()
        .map(|(user, id)| {
            let mut writer = Writer::new(Client::new(&[&url], user, id));
            let killed = Arc::clone(&killed);
            tokio::spawn(async move {
                while !killed.load(Ordering::Relaxed) {
                    writer.write().await;
                }
                // After the last restart as well.
                writer.write().await;
                writer
            })
        })
        .collect();
    let reading = tokio::spawn({
        let (client, killed) = (Client::new(&[&url], "ann", "reader"), Arc::clone(&killed));
        async move {
            let mut reader = Reader::default();
            while !killed.load(Ordering::Relaxed) {
                reader.read(&client).await;
            }
            (client, reader)
        }
    });
    for round in 0..KILLS {
        // At another moment of the batches each time.
        tokio::time::sleep(Duration::from_millis(300 + 37 * round)).await;
        let next = move || {
            let server = server.replace(&storage);
            (server, storage)
        };
        let (replaced, same) = tokio::task::spawn_blocking(next).await.unwrap();
        (server, storage) = (replaced, same);
    }
    killed.store(true, Ordering::Relaxed);
    let mut done = Vec::new();
    for writer in writers {
        done.push(writer.await.unwrap());
    }
    let again = done.iter().map(|w| w.client.again.load(Ordering::Relaxed));
    assert!(again.sum::<usize>() > 0, "no kill hit a batch");

    // The reader who was there all the time, and one who comes now.
    let (client, mut constant) = reading.await.unwrap();
    constant.read(&client).await;
    for user in ["ann", "bob", "cid"] {
        let client = Client::new(&[&url], user, "late");
        let mut late = Reader::default();
        late.read(&client).await;
        let own = WHO.iter().zip(&done).filter(|((name, _), _)| *name == user);
        let mut records = 0;
        for (_, writer) in own {
            writer.check(&late);
            records += writer.records();
        }
        assert_eq!(late.seen.len(), records);
        assert_eq!(client.get("/status").await["conflicts"], 0);
        if user == "ann" {
            assert_eq!(constant.seen, late.seen);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_loses_nothing_and_does_nothing_twice() {
    nothing_lost_and_nothing_twice(Storage::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_loses_nothing_and_does_nothing_twice() {
    nothing_lost_and_nothing_twice(Storage::postgres()).await;
}
