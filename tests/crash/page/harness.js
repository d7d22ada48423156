// One page of the crash test: opens the store that its host name tells, writes what the driver has
// planned, and notes each acknowledgement outside of the browser at once, by a binding of the
// debugging protocol (`window.note`), which answers nothing and so costs no waiting.

const subjectName = location.hostname.split(".")[0];
const MARKER = "crash-marker";

let subject = null;
let stopped = false;
let running = Promise.resolve();

const note = (kind, rest = "") => window.note(`${kind} ${rest}`);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Reads the token of this origin's IndexedDB (or a bucket's), or leaves one: another token than the last
 * time means that the browser has thrown everything away in between.
 */
function marker(factory = indexedDB) {
  return new Promise((resolve, reject) => {
    const request = factory.open(MARKER, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("token").put(crypto.randomUUID(), 0);
    };
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      const db = request.result;
      const get = db.transaction("token").objectStore("token").get(0);
      get.onerror = () => reject(get.error);
      get.onsuccess = () => {
        db.close();
        resolve(get.result);
      };
    };
  });
}

function acknowledged(first, last) {
  note("ack", `${first} ${last} ${Date.now()}`);
}

function refused(op, error) {
  note("refused", `${op.n} ${error?.code ?? error?.name ?? "Error"} ${error?.message ?? error}`);
}

async function attempt(op) {
  try {
    await subject.write(op);
    acknowledged(op.n, op.n);
  } catch (error) {
    refused(op, error);
  }
}

async function step({ how, ops, pauseMs }) {
  if (how === "single") await attempt(ops[0]);
  else if (how === "concurrent") await Promise.all(ops.map(attempt));
  else {
    note("bulk");
    try {
      await subject.bulk(ops);
      // The numbers of a bulk follow each other.
      acknowledged(ops[0].n, ops.at(-1).n);
    } catch (error) {
      refused(ops[0], error);
    }
  }
  if (pauseMs > 0) await sleep(pauseMs);
}

async function write() {
  const plan = await (await fetch("/plan")).json();
  note("writing");
  for (const each of plan) {
    if (stopped) break;
    await step(each);
  }
  note("written");
}

window.crash = {
  marker: () => marker(),
  async open(options) {
    subject ??= await import(`/page/${subjectName}.js`);
    await subject.open(options);
    const bucket = await subject.copy?.(options);
    if (bucket) note("copy", await marker(bucket.indexedDB));
  },
  dump: async () => JSON.stringify(await subject.dump()),
  sync: (fromServer) => subject.sync(fromServer),
  probe: async () => (subject ??= await import(`/page/${subjectName}.js`)).probe(),
  /** Opens the store again with the next schema version, for the peers: goes on. */
  migrate: (options) => subject.migrate?.(options),
  /** Begins to write and, if `online`, to sync; answers at once. */
  begin(online) {
    subject.begin(online);
    running = write().catch((error) => note("error", error?.stack ?? error));
  },
  async stop() {
    stopped = true;
    await running;
  },
};

// A round that is killed while it starts: everything at once, without being asked.
const go = new URLSearchParams(location.search).get("go");
if (go !== null) {
  const { open, online } = JSON.parse(go);
  try {
    note("marker", await marker());
    await window.crash.open(open);
    note("open");
    window.crash.begin(online);
  } catch (error) {
    note("error", error?.stack ?? error);
  }
}
