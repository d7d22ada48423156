//! Two server processes on one PostgreSQL, with clients on both: they behave as one.

use tokio::task::JoinHandle;

use crate::harness::{Client, Reader, Server, Storage, Writer, check};

/// Each batch goes to both servers at the same moment; one of them is killed half-way.
#[tokio::test(flavor = "multi_thread")]
async fn batches_sent_to_both_take_effect_once() {
    const ROUNDS: usize = 12;
    let storage = Storage::postgres();
    let (one, two) = (Server::start(&storage, None), Server::start(&storage, None));
    let (first, second) = (one.url.clone(), two.url.clone());
    // Where one is gone, its clients go to the other.
    let at_one = |id: &str| Client::new(&[&first, &second], "ann", id);
    let at_two = |id: &str| Client::new(&[&second], "ann", id);

    let mut writers = Vec::new();
    for n in 0..3 {
        let id = format!("w{n}");
        let (mut writer, twin) = (Writer::new(at_one(&id)), at_two(&id));
        writers.push(tokio::spawn(async move {
            for _ in 0..ROUNDS {
                let changes = writer.next();
                let (here, there) = tokio::join!(writer.client.push(&changes), twin.push(&changes));
                check(&changes, &here);
                assert_eq!(here, there);
            }
            writer
        }));
    }
    let (reader, mut constant) = (at_two("reader"), Reader::default());
    // A third of the way, or the end, where a writer has failed.
    let over = |writers: &[JoinHandle<Writer>]| writers.iter().all(JoinHandle::is_finished);
    while constant.seen.len() < ROUNDS * 50 && !over(&writers) {
        constant.read(&reader).await;
    }
    tokio::task::spawn_blocking(move || drop(one))
        .await
        .unwrap();
    let mut records = 0;
    for writer in writers {
        let writer = writer.await.unwrap();
        constant.read(&reader).await;
        writer.check(&constant);
        records += writer.records();
    }
    assert_eq!(constant.seen.len(), records);
    assert_eq!(reader.get("/status").await["conflicts"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_has_answered_the_other_shows() {
    let storage = Storage::postgres();
    let servers = [Server::start(&storage, None), Server::start(&storage, None)];
    let client = |n: usize, id: &str| Client::new(&[&servers[n % 2].url], "ann", id);
    let mut writers = [Writer::new(client(0, "w0")), Writer::new(client(1, "w1"))];
    let mut reader = Reader::default();
    for round in 0..20 {
        writers[round % 2].write().await;
        // At the other one, from the checkpoint that this one gave.
        reader.read(&client(round + 1, "reader")).await;
        writers[round % 2].check(&reader);
    }
}
