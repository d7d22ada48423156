//! Every bound of the server, each with its reason. Nothing that a client sends is unbounded.

use std::time::Duration;

/// Changes in one batch. The protocol's number: large enough to make one round trip worth its
/// latency, small enough that the batch commits in a few milliseconds.
pub const CHANGES_MAX: usize = 100;

/// Bytes of a request body after decompression. The protocol's number; it also bounds what one
/// request can make the server hold in memory.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// Bytes of a request body as they arrive. gzip can make data that does not compress slightly
/// longer; without a bound of its own, endless empty gzip members would never reach
/// [`BODY_BYTES_MAX`].
pub const BODY_BYTES_COMPRESSED_MAX: usize = BODY_BYTES_MAX + (64 << 10);

/// Bytes that are still read, and forgotten, of a body that is too large, so that the client gets to
/// see the answer. Beyond this the connection is closed in its face.
pub const BODY_BYTES_REFUSED_MAX: usize = 16 << 20;

/// Records in one pulled page. The protocol's number.
pub const PAGE_MAX: usize = 1000;

/// Records in a page when the client does not say. The protocol's number.
pub const PAGE_DEFAULT: usize = 500;

/// Bytes of record data in one page: 1,000 records of the largest size would be a gigabyte. A page
/// that is full by this bound ends early and says `hasMore`.
pub const PAGE_BYTES_MAX: usize = 8 << 20;

/// Collections named in `types` of one pull: more is a client's mistake, not an app's need.
pub const TYPES_MAX: usize = 100;

/// Bytes of a collection's name: as many as the client takes. Part of every index entry.
pub const TYPE_BYTES_MAX: usize = 128;

/// Bytes of a record's id: as many as the client takes, which would park what is refused here. UUIDs have 36;
/// natural keys (addresses, paths) are longer. Part of every index entry.
pub const RECORD_ID_BYTES_MAX: usize = 512;

/// Bytes of a mutation's id, which the client library mints: a UUID or the like.
pub const MUTATION_ID_BYTES_MAX: usize = 128;

/// Bytes of a client's id, also the tail of every `at`.
pub const CLIENT_ID_BYTES_MAX: usize = 128;

/// Bytes of a token's `sub`. Providers use up to 255 characters (OpenID Connect's bound).
pub const USER_ID_BYTES_MAX: usize = 255;

/// Bytes of an entity's id: it names a record (the site, the project), so as long as those.
pub const ENTITY_ID_BYTES_MAX: usize = RECORD_ID_BYTES_MAX;

/// Entities of one user. Bounds a checkpoint, which holds a position for each (some 7 KB, which
/// proxies still pass in an address), and what a pull looks at.
pub const ENTITIES_MAX: usize = 500;

/// Bytes of a top-level field's name: field names are chosen by programmers.
pub const FIELD_NAME_BYTES_MAX: usize = 256;

/// Top-level fields in one record. A partial update parses them all; and a record with more is a
/// collection in disguise.
pub const FIELDS_MAX: usize = 1000;

/// Levels of nesting in a record, itself included. Parsers that recurse (in other clients, in
/// databases) stay far from the end of their stack; `serde_json` itself stops at 128.
pub const JSON_DEPTH_MAX: usize = 64;

/// Bytes of one record's JSON text. A record that could not travel in a batch of its own must not
/// come to be by partial updates either.
pub const RECORD_BYTES_MAX: usize = BODY_BYTES_MAX;

/// The largest version: the largest integer that a JavaScript number holds exactly.
pub const VERSION_MAX: u64 = (1 << 53) - 1;

/// How long the records of one request may be checked against schemas while its transaction is open.
/// Others may wait for so long, and for the one check that is under way then.
pub const VALIDATION_MAX: Duration = Duration::from_millis(500);

/// Bytes of a secret for HS256, at least: the length of the hash (RFC 7518, section 3.2).
pub const SECRET_BYTES_MIN: usize = 32;

/// How far the clocks of token issuer and server may differ, unless the configuration says.
pub const TOKEN_LEEWAY_S: u64 = 30;

/// The most that the configuration may say: a token that lives an hour longer than its issuer meant is
/// another token.
pub const TOKEN_LEEWAY_S_MAX: u64 = 60 * 60;

/// Bytes of a token. HTTP servers commonly bound all headers by 8 to 16 KiB.
pub const TOKEN_BYTES_MAX: usize = 16 << 10;

/// Bytes of a key set. Providers publish two to four keys of about 1 KiB.
pub const JWKS_BYTES_MAX: u64 = 256 << 10;

/// Keys in a key set.
pub const JWKS_KEYS_MAX: usize = 100;

/// How long a key set is used before its file is looked at again: soon enough for a new key, seldom
/// enough to cost nothing.
pub const JWKS_LOOK: Duration = Duration::from_secs(1);

/// Bits of an RSA key, at least (RFC 7518, section 3.3).
pub const RSA_BITS_MIN: usize = 2048;

/// Bits of an RSA key, at most: verifying takes time that grows with the square.
pub const RSA_BITS_MAX: usize = 8192;

/// The longest life of a token from the demo endpoint.
pub const DEMO_TOKEN_S_MAX: u64 = 24 * 60 * 60;

/// Life of a token from the demo endpoint when the request does not say.
pub const DEMO_TOKEN_S_DEFAULT: u64 = 60 * 60;

/// Requests worked on at the same time; each may hold a body of [`BODY_BYTES_MAX`]. More are
/// answered `503` at once instead of queueing until their clients have given up.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 256;

/// Of these, requests with a body and without a valid token: so many places anybody could hold for
/// [`REQUEST_TIMEOUT`] by a body that comes slowly.
pub const STRANGERS_IN_FLIGHT_MAX: usize = 64;

/// A request that takes longer is answered `503`: clients give up at about this time themselves.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long requests in flight may take to finish once shutdown has begun. Longer than
/// [`REQUEST_TIMEOUT`] would be pointless; service managers kill after 90 s.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// What `Retry-After` says with a `503`, in seconds.
pub const RETRY_AFTER_S: u64 = 1;

/// Batches waiting for the writer. At a few milliseconds each, the last one waits under a second;
/// one more is answered `503`.
pub const WRITE_QUEUE_MAX: usize = 128;

/// Batches that share one commit, and so one fsync. Bounds how long the first of them waits.
pub const WRITE_GROUP_MAX: usize = 32;

/// Connections that read. SQLite reads from the page cache: more than a few only compete for cores.
pub const READERS: usize = 4;

/// Pages of 4 KiB in SQLite's log before they are written to the database: some 32 MB. SQLite's own
/// number, a thousand, makes a busy server write its hottest pages every few batches.
pub const WAL_PAGES: i64 = 8000;

/// KiB of pages that SQLite's writer keeps. With its own 2,000 a database of some size is read again
/// and again from the kernel.
pub const WRITER_CACHE_KIB: i64 = 32 << 10;

/// Statements that SQLite's writer keeps prepared: more than there are.
pub const STATEMENTS: usize = 64;

/// How long SQLite waits for another process's lock before it reports the database as busy.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// News that wait for a listener. One that is further behind is told that anything may have changed.
pub const FEED_BACKLOG: usize = 256;

/// How long tombstones, results of mutations and settled conflicts are kept when nothing else is
/// said: longer than devices usually stay offline. One that comes later pulls from the beginning.
pub const RETENTION_DEFAULT: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// How long conflicts are kept that nobody settles, when nothing else is said: a year, in which
/// whoever works with the record comes by once more.
pub const RETENTION_OPEN_CONFLICTS_DEFAULT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Rows of each kind that one step of a purge deletes: a few milliseconds of the writer's time.
pub const PURGE_ROWS: usize = 500;

/// The largest version of a purged tombstone that is remembered: no record is changed so often, and
/// one that claims to be must not leave the others of its realm without numbers.
pub const PURGED_VERSION_MAX: u64 = 1 << 40;

/// Between two steps of a purge: others write meanwhile.
pub const PURGE_PAUSE: Duration = Duration::from_millis(50);

/// Between two purges. What is kept an hour longer than 90 days harms nobody.
pub const PURGE_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Before the first purge: the first requests after a start come first.
pub const PURGE_DELAY: Duration = Duration::from_secs(1);

/// Conflicts in one page of the log. Each holds two records.
pub const CONFLICTS_MAX: usize = 100;

/// Answers shorter than this are not compressed: gzip's header and tables would make them longer.
pub const COMPRESS_BYTES_MIN: u64 = 512;

/// How long a browser may remember the answer to a CORS preflight.
pub const CORS_MAX_AGE: Duration = Duration::from_secs(60 * 60);

/// Connections to PostgreSQL that write. Each batch holds one for some milliseconds; a server of the
/// default size takes a hundred from all its clients together.
pub const POSTGRES_WRITERS: u32 = 12;

/// How many of them uploads may have at the same time.
pub const POSTGRES_UPLOADS: usize = 4;

/// Connections to PostgreSQL that read; apart, so that writers who wait for locks leave them alone.
pub const POSTGRES_READERS: u32 = 8;

/// How long a request waits for a connection before it is told to come back.
pub const POSTGRES_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a statement waits for another transaction's lock: as long as SQLite's.
pub const POSTGRES_LOCK_TIMEOUT: Duration = BUSY_TIMEOUT;

/// How long a statement may take, waiting for locks included. Below [`REQUEST_TIMEOUT`], so that
/// the client gets an answer.
pub const POSTGRES_STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long PostgreSQL keeps a transaction, and its locks, whose server has fallen silent.
pub const POSTGRES_IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a server that starts waits for another one that is migrating the database.
pub const POSTGRES_MIGRATE_TIMEOUT: Duration = Duration::from_secs(60);

/// How often a batch that collided with another one is done again before its client is told to.
pub const POSTGRES_ATTEMPTS: usize = 4;

/// How often the connection that listens is asked whether it still does.
pub const LISTEN_CHECK: Duration = Duration::from_secs(30);

/// The longest pause between two attempts to listen again.
pub const LISTEN_PAUSE_MAX: Duration = Duration::from_secs(5);

// Media.

/// Bytes of one stored piece of a file, and so of memory that a request for a file needs: large
/// enough that a row's cost is small beside its bytes, small enough that the writer is soon free.
pub const MEDIA_PIECE_BYTES: usize = 256 << 10;

/// Bytes of a file's id: a UUID or a path.
pub const MEDIA_ID_BYTES_MAX: usize = 256;

/// Bytes of a file's media type, which is answered as it was given.
pub const MEDIA_TYPE_BYTES_MAX: usize = 128;

/// Bytes of one file, where the configuration does not say.
pub const MEDIA_BYTES_MAX: u64 = 100 << 20;

/// Bytes of all files of one user, where the configuration does not say.
pub const MEDIA_USER_BYTES_MAX: u64 = 1 << 30;

/// Uploads at the same time. Each holds up to two pieces and one place in the writer's queue, which
/// is to have room for batches.
pub const UPLOADS_MAX: usize = 32;

/// Uploads of one user at the same time.
pub const UPLOADS_PER_USER_MAX: usize = 4;

/// An upload of which nothing comes for so long is taken for broken. What came is kept.
pub const UPLOAD_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long an upload waits for room in the writer's queue before it tells its client to go on
/// later.
pub const UPLOAD_QUEUE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long it pauses before it tries again.
pub const UPLOAD_QUEUE_PAUSE: Duration = Duration::from_millis(20);

/// How long an unfinished upload is kept after its last byte, where the configuration does not say.
pub const UPLOAD_KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How often what is to be cleared away is looked for.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// Pieces that one step of clearing away deletes: a few megabytes, some milliseconds of the writer.
pub const SWEEP_PIECES_MAX: usize = 16;

// Streams.

/// Between two heartbeats of a stream, where the configuration does not say: proxies commonly end
/// what is silent for 30 s or 60 s.
pub const STREAM_HEARTBEAT: Duration = Duration::from_secs(20);

/// How long a stream waits for more commits before it pokes, where the configuration does not say.
pub const STREAM_DEBOUNCE: Duration = Duration::from_millis(50);

/// How often a stream asks a store that is busy, before it ends and the client comes back.
pub const STREAM_TRIES: u32 = 6;

/// How long it waits after the first time; each time twice as long.
pub const STREAM_PAUSE: Duration = Duration::from_millis(50);

/// Streams at the same time, where the configuration does not say. Each costs a connection and 20 KB,
/// measured with 500 (`docs/SERVER.md`).
pub const STREAMS_MAX: usize = 1000;

/// Streams of one user at the same time, where the configuration does not say: devices, not tabs,
/// since the tabs of a browser share one.
pub const STREAMS_PER_USER_MAX: usize = 20;

/// A connection whose peer takes nothing for so long, while there is something for it, is ended.
pub const WRITE_STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The same while the server is shutting down.
pub const WRITE_STALL_STOPPING_TIMEOUT: Duration = Duration::from_secs(2);

// The edge: rates, configuration, readiness.

/// Units a second that one user may ask for, unless the configuration says: a request is one, and each
/// further change of a batch. A tenth of what the writer does, so that ten users at their limit
/// still leave nobody waiting.
pub const USER_PER_SECOND: u32 = 2_000;

/// Units that one user may ask for at once: a device that comes back after weeks, or is set up with some
/// tens of thousands of records, sends without pause.
pub const USER_BURST: u32 = 100_000;

/// Requests a second from one address without a valid token, unless the configuration says.
pub const PEER_PER_SECOND: u32 = 10;

/// Such requests at once: many devices behind one address whose tokens expire together.
pub const PEER_BURST: u32 = 300;

/// Buckets of one kind: 100,000 of them take a few megabytes.
pub const RATE_KEYS_MAX: usize = 100_000;

/// Bytes of a configuration file.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Bytes of a JSON Schema.
pub const SCHEMA_BYTES_MAX: u64 = 1 << 20;

/// Bytes of a request's id that a client or a proxy chose: a UUID or a trace's id.
pub const REQUEST_ID_BYTES_MAX: usize = 64;

/// How long readiness waits for the store: shorter than the time-outs of those who ask (a second or two).
pub const READY_TIMEOUT: Duration = Duration::from_millis(800);
