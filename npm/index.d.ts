/**
 * landfall: an offline-first sync engine for web apps.
 *
 * Times are milliseconds since 1970 unless a name says otherwise; sizes are bytes.
 */

/** A record is a plain object of JSON values. */
export type RecordData = object;

/** Field names of `T` that hold strings, so that they can serve as a key. */
export type KeyField<T> = Extract<keyof T, string>;

export type Action = "create" | "update" | "delete";
export type MutationState = "pending" | "syncing" | "conflict" | "failed";
export type RecordState = "synced" | "pending" | "syncing" | "conflict" | "failed" | "local";
export type ConflictStrategy =
  "last-write-wins" | "server-wins" | "client-wins" | "merge" | "manual";

/** Both sides of a conflict, to be changed at will; `null`: there was no such record, or it is deleted. */
export interface ConflictSides<T = any> {
  /** What the local change was made on. */
  base: T | null;
  /** What this device has. */
  local: T | null;
  /** What the server has. */
  remote: T | null;
  collection: string;
  key: string;
}

/** A record; `null` deletes it; `"park"` leaves it to a person. */
export type ConflictAnswer<T = any> = T | null | "park";

/**
 * Settles conflicts of a collection. It runs in the tab that syncs, and again where a side has changed
 * by the time it answers, so it must have no effects of its own. If it throws, answers anything else or
 * does not answer within 30 seconds, the change is parked (`conflict-handler`).
 */
export type ConflictHandler<T = any> = (
  sides: ConflictSides<T>,
) => ConflictAnswer<T> | Promise<ConflictAnswer<T>>;
export type Durability = "relaxed" | "strict";

/**
 * What landfall needs of a schema library: the Standard Schema interface, version 1
 * (https://standardschema.dev), which Zod, Valibot, ArkType and others have.
 */
export interface StandardSchema<Output = unknown> {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => StandardResult<Output> | Promise<StandardResult<Output>>;
    readonly types?: { readonly input: unknown; readonly output: Output } | undefined;
  };
}

export type StandardResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | {
      readonly issues: ReadonlyArray<{
        readonly message: string;
        readonly path?: ReadonlyArray<PropertyKey | { readonly key: PropertyKey }> | undefined;
      }>;
    };

export interface CollectionOptions<T = any> {
  /** The field that holds the key, a string of 1 to 512 bytes (well-formed Unicode without U+0000). */
  key: string;
  /**
   * Fields to find by: `"country"`, or `["country", "name"]` for a compound index. A record is in an index
   * only if each of its fields is a string or a number there (not null, true, false, a list or missing).
   */
  indexes?: ReadonlyArray<string | readonly string[]>;
  /** Field → collection of the parent: a child is never pushed before its parent. */
  references?: Readonly<Record<string, string>>;
  /**
   * How a conflict is settled: by a rule, by a function, or by `conflicts.resolve` (`"manual"`). Default
   * `"last-write-wins"`.
   */
  conflict?: ConflictStrategy | ConflictHandler<T>;
  /** Higher is pushed first. Default 0. */
  priority?: number;
  /** New records stay on this device until they are promoted. Default false. */
  localOnly?: boolean;
  /** `false`: a write shows only when the backend has confirmed it. Default true. */
  optimistic?: boolean;
  /**
   * Checks every record before it is stored; what it answers is what is stored. Reads, later writes of the
   * collection and `close()` wait for it; what it has not answered within 30 seconds is refused
   * (`invalid-record`). It may ask the database: what it asks for before its first `await` sees what is
   * stored. What it asks for later, or writes, waits for it in turn, so it must not wait for that.
   */
  schema?: StandardSchema<T>;
}

/**
 * `{ sites: { key: "id" }, … }`. The record types come from the schemas, or are given as
 * `open<{ sites: Site }>(…)`.
 */
export type Collections<Types> = { readonly [Name in keyof Types]: CollectionOptions<Types[Name]> };

/** The record types of a literal of collections: those of its schemas. */
export type TypesOf<Declared> = {
  -readonly [Name in keyof Declared]: Declared[Name] extends {
    readonly schema: StandardSchema<infer T>;
  }
    ? T extends RecordData
      ? T
      : RecordData
    : RecordData;
};

/** How one write is done; what is not said is as the collection declares. */
export interface WriteOptions {
  /** A new record stays on this device until it is promoted. */
  localOnly?: boolean;
  /** `false`: it shows, and the promise resolves, only when the backend has confirmed it. */
  optimistic?: boolean;
}

export interface OpenOptions<Types> {
  /** Name of the app: one database for each name and user. */
  name: string;
  /** Id of the signed-in user. Another user on the same browser gets another database. */
  user: string;
  /** Where mutations go. Without one, everything stays queued on the device. */
  backend?: Backend;
  collections: Collections<Types>;
  /** Pull at least this often, in ms. Default 30,000; 0 switches it off. */
  interval?: number;
  /** `"strict"` waits until the disk has it. Default `"relaxed"`. */
  durability?: Durability;
  /** Answers that blame the mutation itself as retryable, before it is parked. Default 3. */
  maxAttempts?: number;
  /** Start syncing at once. Default true; otherwise call `resume()`. */
  autoStart?: boolean;
  /**
   * Ask the browser not to delete the database when space is short. Default: only in Chromium, which
   * decides by itself; Firefox would ask the person. `status.storage.persisted` tells the outcome.
   */
  persist?: boolean;
  /** The version of the data, a whole number from 1. Default 1. */
  version?: number;
  /**
   * For each collection, what makes a record of an older version (`from`) one of this version. Called
   * at `open` for everything that is stored and queued, with a copy; must be synchronous.
   */
  migrate?: { readonly [Name in keyof Types]?: (record: any, from: number) => RecordData };
  /**
   * Keep unsynced changes in a second place as well, for when the browser throws the database away.
   * Default true.
   */
  rescue?: boolean;
  /** What records may weigh in memory, in bytes, about; others are read again when needed. Default 64 MiB. */
  memory?: number;
  /** Where the wasm is, if not beside the module. */
  wasm?: URL | string | BufferSource | WebAssembly.Module;
}

/** One change as it travels to a backend. See docs/PROTOCOL.md. */
export interface Change {
  id: string;
  type: string;
  action: Action;
  offlineId: string;
  serverId?: string;
  /** The version that the change was made on; 0 for a create. */
  versionNumber: number;
  /** The record; with `changed`, only these fields. */
  data?: Record<string, unknown>;
  changed?: string[];
  /** Hybrid logical clock. */
  at: string;
  group?: string;
}

export interface PushResult {
  id: string;
  offlineId: string;
  serverId?: string;
  status: "success" | "conflict" | "failed";
  /** The record's version now. Needed unless `failed`. */
  versionNumber?: number;
  /** The record as the backend has it, with its key in the key field: needed for a conflict, unless `deleted`. */
  data?: Record<string, unknown>;
  deleted?: boolean;
  at?: string;
  message?: string;
  code?: string;
  retryable?: boolean;
}

export interface PulledChange {
  type: string;
  id: string;
  versionNumber: number;
  deleted?: boolean;
  data?: Record<string, unknown>;
  at?: string;
}

export interface PushAnswer {
  results: PushResult[];
  /** The server's clock, ms since 1970, if known; what cannot be that (seconds, say) is ignored. */
  serverTime?: number;
}

export interface PullAnswer {
  changes: PulledChange[];
  checkpoint: string;
  hasMore: boolean;
  /** As in a push. */
  serverTime?: number;
}

/** Any object with these methods is a backend. */
export interface Backend {
  push(
    changes: Change[],
    context: { signal: AbortSignal; clientId: string; refresh: boolean },
  ): Promise<PushAnswer>;
  /**
   * Fetches what has changed after `checkpoint`. Where an answer says that there is more, the next page is
   * asked for at once; that request is given up by its `signal` if nobody wants the page after all.
   */
  pull(
    checkpoint: string | null,
    limit: number,
    context: { signal: AbortSignal; clientId: string; refresh: boolean },
  ): Promise<PullAnswer>;
  /**
   * Calls `poke` whenever something has changed, and `lost` when the connection has broken. Answers, when
   * the connection is up, a function that ends it; throws or rejects where it cannot be had within 30 s. Called in
   * the tab that syncs, and again, with growing pauses, after `lost` or a failure; the pauses begin anew
   * once a connection has poked or lasted for 30 s.
   */
  subscribe?(poke: () => void, lost: (error?: unknown) => void): (() => void) | Promise<() => void>;
}

/**
 * What a backend throws to say how a request failed. Anything else that it throws counts as
 * "no answer": it is tried again later.
 */
export class BackendError extends Error {
  constructor(message: string, details?: { status?: number; retryAfterMs?: number; code?: string });
  /** HTTP status; 0 when nothing came back. */
  readonly status: number;
  readonly retryAfterMs: number | undefined;
  readonly code: string | undefined;
}

export interface RestOptions {
  /** Base of the endpoints, for example `"/api/v1/sync"`. */
  url: string | URL;
  /** Called for each request; `refresh` is true once after a 401. */
  headers?: (context: { refresh: boolean }) => HeadersInit | Promise<HeadersInit>;
  /** Per request, in ms. Default 30,000; after 60,000 the engine gives a request up in any case. */
  timeout?: number;
  /** Compress request bodies over 1 KiB. Default true. */
  gzip?: boolean;
  /** Keep `GET /stream` open, so that changes of others come at once. Default false. */
  realtime?: boolean;
  fetch?: typeof fetch;
}

/** The backend for docs/PROTOCOL.md. */
export function rest(options: RestOptions): Backend;

export type ErrorCode =
  | "invalid-options"
  | "invalid-record"
  | "invalid-key"
  | "not-cloneable"
  | "already-exists"
  | "not-found"
  | "unknown-collection"
  | "unknown-index"
  | "unsupported-environment"
  | "database-newer"
  | "database-blocked"
  | "database-lost"
  | "database-damaged"
  | "quota-exceeded"
  | "storage-failed"
  | "rescue-failed"
  | "write-contention"
  | "closed"
  | "aborted"
  | "timeout"
  | "offline"
  | "network"
  | "server-error"
  | "throttled"
  | "needs-auth"
  | "rejected"
  | "conflict"
  | "conflict-handler"
  | "conflict-parked"
  | "unsynced"
  | "migration-failed"
  | "protocol-error"
  | "wasm-failed";

/** Every error that landfall throws or reports. */
export class LandfallError extends Error {
  readonly code: ErrorCode;
  /** Where a schema has found the fault. */
  readonly path?: readonly PropertyKey[];
  /** What to do next. */
  readonly hint: string;
  readonly retryable: boolean;
}

export interface StatusError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string;
  readonly retryable: boolean;
  readonly at: number;
}

export interface Status {
  readonly phase: "idle" | "syncing" | "offline" | "paused" | "needs-auth" | "error" | "closed";
  readonly network: "online" | "offline" | "unreachable";
  /** `polling`: the connection is down, and changes come with the interval until it is back. */
  readonly realtime: "off" | "connecting" | "live" | "polling";
  readonly leader: boolean;
  readonly outbox: {
    readonly pending: number;
    readonly syncing: number;
    readonly conflict: number;
    readonly failed: number;
  };
  readonly progress: {
    readonly direction: "push" | "pull";
    readonly done: number;
    readonly total: number | null;
  } | null;
  readonly collections: {
    readonly [name: string]: {
      readonly loading: boolean;
      readonly lastPulledAt: number | null;
      readonly count: number;
    };
  };
  /**
   * Set when the browser had thrown the database away: so many unsynced changes came back from the
   * rescue copy; the rest is pulled again.
   */
  readonly recovered: {
    readonly code: "store-recovered";
    readonly at: number;
    readonly mutations: number;
  } | null;
  readonly lastSyncedAt: number | null;
  readonly nextSyncAt: number | null;
  readonly storage: {
    readonly usage: number | null;
    readonly quota: number | null;
    readonly persisted: boolean | null;
  };
  readonly error: StatusError | null;
}

export interface OutboxEntry {
  readonly id: string;
  readonly collection: string;
  readonly key: string;
  readonly action: Action;
  readonly state: MutationState;
  readonly attempts: number;
  readonly createdAt: number;
  readonly lastAttemptAt: number | null;
  readonly nextAttemptAt: number | null;
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly priority: number;
  /** Why it is not sent yet: the id of the mutation it waits for. */
  readonly waitsFor: string | null;
  /**
   * The id of the parked mutation (or the one in conflict) that keeps it waiting, directly or through
   * others: it goes when that one was retried and confirmed. `null` where it goes by itself.
   */
  readonly blockedBy: string | null;
}

export interface Outbox {
  /** First in, first out. An unknown name or a wrong type is refused (`invalid-options`). */
  list(filter?: {
    state?: MutationState;
    collection?: string;
    limit?: number;
  }): Promise<OutboxEntry[]>;
  stats(): Promise<{
    pending: number;
    syncing: number;
    conflict: number;
    failed: number;
    total: number;
    /** When the oldest of them was made: not always the first of the list, what was queued again is behind. */
    oldest: number | null;
  }>;
  /**
   * Queues a parked mutation again, under a new id: the server may remember what it answered to the
   * old one. One that waits with a conflict is sent again as well.
   */
  retry(id: string): Promise<void>;
  /** All that are parked; those that wait with a conflict go on waiting. */
  retryAll(): Promise<number>;
  /**
   * Changes the content of a queued create or update. A parked one is queued again, under a new id; one
   * that may have been sent is left alone and followed by another; one that waits with a conflict goes
   * on waiting. `not-found` where it was confirmed meanwhile.
   */
  edit(id: string, patch: Record<string, unknown>): Promise<void>;
  /** Gives the mutation up and puts the record back to what the server has. */
  discard(id: string): Promise<void>;
}

export interface Conflict {
  readonly id: string;
  readonly collection: string;
  readonly key: string;
  readonly at: number;
  /** How it was settled, or is to be; `"manual"` where a person has decided. */
  readonly strategy: ConflictStrategy | "function";
  /**
   * `"merged"`: both sides' changes, or a record of the app's choice. `"waiting"`: for
   * `conflicts.resolve`, or for the app's function. `"parked"`: the function gave it up; the reason is
   * with the mutation in the outbox.
   */
  readonly outcome: "local" | "remote" | "merged" | "waiting" | "parked";
  /** `null`: there was no such record, or it was deleted. */
  readonly base: RecordData | null;
  readonly local: RecordData | null;
  readonly remote: RecordData | null;
  readonly result: RecordData | null;
}

export interface Conflicts {
  /** Those that are not settled first, then the log, newest first: copies, to be changed at will. */
  list(filter?: { collection?: string; limit?: number }): Promise<Conflict[]>;
  get(id: string): Promise<Conflict | undefined>;
  /**
   * Settles a conflict that waits or is parked: for a side as it is now, with a record, or with `null`
   * for a deletion. For one that was settled already this is a new change on top of the record as it
   * is now.
   */
  resolve(id: string, choice: "local" | "remote" | RecordData | null): Promise<void>;
  /** Empties the log; what is not settled stays. */
  clear(): Promise<void>;
}

type IndexValue = string | number;
/**
 * What is `undefined` was not given. An unknown name, `null`, an empty list or a wrong type is refused
 * (`invalid-options`): left out, it would select everything. So are more values than the index has fields.
 */
export interface FindQuery {
  /**
   * A declared index; without one the query runs over the keys. With one, records that are not in the index
   * are neither found nor counted: those that lack one of its fields, or have something else than a string
   * or a number there.
   */
  index?: string | readonly string[];
  /** Of a compound index: of its first fields, as many as are given; without an index a key. */
  equals?: IndexValue | readonly IndexValue[];
  /** Half-open: `from <= value < to`. Of a compound index: of the fields that follow those of `equals`. */
  range?: { from?: IndexValue | readonly IndexValue[]; to?: IndexValue | readonly IndexValue[] };
  /** Strings that begin with this. Of a compound index: of the field that follows those of `equals`. */
  prefix?: string;
  order?: "asc" | "desc";
  limit?: number;
  offset?: number;
  /**
   * The last record of the page before, as it was then (without an index, its key will do): the next
   * page begins behind it, whatever was inserted or deleted meanwhile.
   */
  after?: string | RecordData;
}

/** New values for some fields; `undefined` removes one. */
export type Patch<T> = { [Field in keyof T]?: T[Field] | undefined };

export interface LiveRecord<T extends RecordData> {
  get(): Promise<Readonly<T> | undefined>;
  /** Calls at once and after each change; `undefined` where there is no such record. */
  subscribe(fn: (record: Readonly<T> | undefined) => void): () => void;
}

export interface Collection<T extends RecordData> {
  readonly name: string;
  /** Refuses a key that exists (`already-exists`). Resolves when the device has it for good. */
  create(record: T, options?: WriteOptions): Promise<void>;
  /** Creates or replaces. */
  put(record: T, options?: WriteOptions): Promise<void>;
  /** All or none, as the other writes of many. */
  putMany(records: readonly T[], options?: WriteOptions): Promise<void>;
  /** Changes the given fields; `undefined` removes one. `not-found` where there is no record. */
  update(key: string, patch: Patch<T>, options?: WriteOptions): Promise<void>;
  updateMany(
    changes: ReadonlyArray<{ key: string; patch: Patch<T> }>,
    options?: WriteOptions,
  ): Promise<void>;
  /** Deleting what is not there is no error. */
  delete(key: string, options?: WriteOptions): Promise<void>;
  deleteMany(keys: readonly string[], options?: WriteOptions): Promise<void>;
  /** Queues a local-only record: from now on it is an ordinary one. */
  promote(key: string): Promise<void>;
  get(key: string): Promise<Readonly<T> | undefined>;
  getMany(keys: readonly string[]): Promise<(Readonly<T> | undefined)[]>;
  /** In the order of the keys. */
  all(): Promise<Readonly<T>[]>;
  find(query?: FindQuery): Promise<Readonly<T>[]>;
  count(query?: FindQuery): Promise<number>;
  /** Calls at once and after each commit that changed the result; returns the stop function. */
  subscribe(query: FindQuery, fn: (rows: Readonly<T>[]) => void): () => void;
  subscribe(fn: (rows: Readonly<T>[]) => void): () => void;
  /** One record, to read or to watch. */
  record(key: string): LiveRecord<T>;
  /**
   * `undefined` where there is no such record; right after `open()` also where it has not been read yet:
   * any read that has ended before makes sure.
   */
  state(key: string): RecordState | undefined;
}

/**
 * A collection inside a transaction. Reads see what the transaction has written; nothing is stored
 * before its end. Writes need not be awaited: one that fails takes the transaction with it.
 */
export interface TransactionCollection<T extends RecordData> {
  readonly name: string;
  get(key: string): Promise<Readonly<T> | undefined>;
  getMany(keys: readonly string[]): Promise<(Readonly<T> | undefined)[]>;
  create(record: T, options?: WriteOptions): Promise<void>;
  put(record: T, options?: WriteOptions): Promise<void>;
  update(key: string, patch: Patch<T>, options?: WriteOptions): Promise<void>;
  delete(key: string, options?: WriteOptions): Promise<void>;
}

export interface Transaction<Types = Record<string, RecordData>> {
  collection<Name extends Extract<keyof Types, string>>(
    name: Name,
  ): TransactionCollection<Types[Name] extends RecordData ? Types[Name] : RecordData>;
}

/** What is not synced, as JSON. */
export interface Backup {
  readonly landfall: 1;
  readonly name: string;
  readonly user: string;
  /** The database it comes from: part of the id of each mutation. */
  readonly client: string;
  readonly exportedAt: number;
  /** Of the app's data, as in `open`; a backup without it (from before there was one) is taken as it is. */
  readonly version?: number;
  /** Collections that are of an older one. */
  readonly older?: { readonly [collection: string]: number };
  readonly mutations: readonly object[];
  /** What the rescue copy alone has, of databases that the browser has thrown away. */
  readonly others?: ReadonlyArray<{
    readonly client: string;
    readonly mutations: readonly object[];
  }>;
  /** What could not be read, and is missing here: changes with a damaged record, or (without an id) the rescue copy. */
  readonly unread?: ReadonlyArray<{
    readonly id?: string;
    readonly collection?: string;
    readonly key?: string;
    readonly message: string;
  }>;
}

/** What became of changes, and pulls, are told in every tab, though one of them syncs. */
export interface ManagerEvents {
  mutation: { id: string; collection: string; key: string; action: Action };
  conflict: Conflict;
  parked: OutboxEntry;
  /** The backend keeps a record that was created here under a key of its own; `from` stands for it. */
  rekeyed: { collection: string; from: string; to: string };
  pulled: { changes: number };
  /** In the tab that found the database gone, right after its `open()`. */
  recovered: { code: "store-recovered"; at: number; mutations: number };
  error: StatusError;
}

export interface SyncManager<Types = Record<string, RecordData>> {
  readonly name: string;
  readonly user: string;
  /** Frozen, and the same object until something changes. */
  readonly status: Status;
  readonly outbox: Outbox;
  readonly conflicts: Conflicts;
  collection<Name extends Extract<keyof Types, string>>(
    name: Name,
  ): Collection<Types[Name] extends RecordData ? Types[Name] : RecordData>;
  getSnapshot(): Status;
  /** Calls at once and at each change; returns the stop function. */
  subscribe(fn: (status: Status) => void): () => void;
  /** Pushes and pulls now; rejects with what stopped it, and (`invalid-options`) without a backend. */
  sync(): Promise<void>;
  /** Pulls now, whatever the interval. */
  refresh(): Promise<void>;
  /**
   * Compacts the database now. It happens by itself at quiet moments, or after half a minute without
   * one; before a backup of the profile, say, it can be asked for. False where another tab syncs, which
   * then sees to it.
   */
  compact(): Promise<boolean>;
  /** Stops syncing, in all tabs that are open. */
  pause(): void;
  /** Starts syncing again, in all tabs. */
  resume(): void;
  /** Resolves when nothing waits to be pushed and a pull has followed. Parked items do not count. */
  whenSynced(options?: { signal?: AbortSignal }): Promise<void>;
  waitFor(
    predicate: (status: Status) => boolean,
    options?: { signal?: AbortSignal },
  ): Promise<Status>;
  on<Event extends keyof ManagerEvents>(
    event: Event,
    fn: (detail: ManagerEvents[Event]) => void,
  ): () => void;
  /**
   * Stores all that the callback writes, or nothing: where it throws, and where a record that it read
   * was changed meanwhile. In that case it runs again, up to ten times (`write-contention`), so it
   * must have no effects of its own. Answers what the callback returns.
   */
  transaction<Result>(run: (tx: Transaction<Types>) => Result | Promise<Result>): Promise<Result>;
  /**
   * Every change that the backend has not confirmed, to be kept or moved elsewhere; what could not be read is named
   * in `unread`.
   */
  exportUnsynced(): Promise<Backup>;
  /**
   * Takes over what a backup of this app and user has and this database does not know, all or none;
   * answers how many changes that were. What is of an older version of the data is migrated; what is of a newer
   * one refuses (`database-newer`). Of `others` what can be is taken over, after the rest; where some cannot be now
   * (a change of the same record is in the way, say) it rejects, and the backup may be imported again later.
   */
  importUnsynced(backup: Backup): Promise<number>;
  /**
   * Deletes everything this device keeps for the user, and closes the manager in every tab. Refuses
   * (`unsynced`) while something is not synced, or waits in the rescue copy, unless it is to be discarded;
   * (`rescue-failed`) where that copy may have such changes and cannot be read, or cannot be deleted.
   */
  signOut(options?: { discard?: boolean }): Promise<void>;
  /**
   * Stops syncing and lets the database go. Resolves when all that was asked for is stored, and in the rescue
   * copy; that is waited for 1 s at most, and made good at the next start.
   */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
  /** The status, for RxJS (`from(db)`) and others. */
  [Symbol.observable](): {
    subscribe(observer: { next?: (status: Status) => void }): { unsubscribe(): void };
  };
}

declare global {
  interface SymbolConstructor {
    /** As RxJS declares it. */
    readonly observable: symbol;
  }
}

/** Opens (or creates) the database of this app and user, and starts to sync. */
export function open<const Declared extends Readonly<Record<string, CollectionOptions>>>(
  options: Omit<OpenOptions<TypesOf<Declared>>, "collections"> & { collections: Declared },
): Promise<SyncManager<TypesOf<Declared>>>;
export function open<Types = Record<string, RecordData>>(
  options: OpenOptions<Types>,
): Promise<SyncManager<Types>>;

/** Loads the wasm ahead of the first `open`. */
export function ready(wasm?: OpenOptions<unknown>["wasm"]): Promise<void>;
