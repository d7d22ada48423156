// The rounds: start the browser, check what the last kill left, write, kill.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { makeProfile, removeProfile } from "../../e2e/lib/chromium.mjs";
import { makeRecord } from "../page/record.js";
import { check } from "./check.mjs";
import { damage, folderOf } from "./damage.mjs";
import { KINDS, lead, order } from "./kinds.mjs";
import { Findings } from "./model.mjs";
import { makePlan } from "./plan.mjs";
import { derive, random } from "./random.mjs";
import { Server } from "./server.mjs";
import { startSession } from "./session.mjs";
import { Subject } from "./subject.mjs";

/** So many rounds have one user; then a new one begins, or the checks would take ever longer. */
const ROUNDS_A_USER = 25;
/** With `--wipe` most rounds end in damage, not all: what a spared start leaves must survive too. */
const DAMAGED = 0.6;
/** And users change often, for a user's first sessions are the ones with the youngest copy. */
const RENEWED = 0.3;

/** What the network is like while it writes; offline if a kind is not named. */
const MODES = {
  syncing: ["online", "online", "flaky"],
  start: ["offline", "offline", "online", "flaky"],
};

export class Run {
  #options;
  #server;
  #port;
  #profile;
  #session = null;
  /** Number of the session: each has its own plan and its own kill. */
  #number = 0;
  #sinceRenewed = 0;
  /** `name kind` → who waits for that note. */
  #awaited = new Map();
  #feed = 0;
  subjects = new Map();
  /** Each check: the round before it, and what was found. */
  rounds = [];
  kinds = { ...KINDS };
  damages = { flipped: 0, removed: 0, nothing: 0 };
  errors = new Map();
  skipped = null;

  constructor(options) {
    this.#options = options;
  }

  async all() {
    const { rounds, seed } = this.#options;
    this.#server = new Server(this.#options.folders, random(derive(seed, -1)));
    for (const name of this.#options.stores)
      this.subjects.set(name, new Subject(name, this.#server));
    this.#profile = await makeProfile();
    try {
      this.#port = await this.#server.listen();
      await this.#probe();
      const { kind } = this.#options;
      if (kind !== null) {
        if (!this.kinds[kind]) throw new Error(`no kind of round \`${kind}\``);
        this.kinds = { [kind]: this.kinds[kind] };
      }
      const kinds = order(this.kinds, random(derive(seed, -2)), this.#options.wipe);
      let round = null;
      for (let index = 0; index < rounds; index += 1) {
        round = await this.#round(index, kinds(index), round);
      }
      await this.#open(random(derive(seed, rounds)), round, { last: true });
      await this.#session.kill();
    } finally {
      await this.#session?.kill().catch(() => {});
      this.#server.close();
      await removeProfile(this.#profile);
    }
    for (const subject of this.subjects.values()) subject.close();
    const [fault] = this.#server.faults;
    if (fault) throw fault;
  }

  /** What this build can do, and the first look at each origin. */
  async #probe() {
    await this.#start();
    await Promise.all(this.#options.stores.map((name) => this.#load(name)));
    const { migrations } = await this.#session.call("landfall", "probe");
    await this.#session.kill();
    if (migrations) this.subjects.get("landfall").version = 1;
    else {
      delete this.kinds.migration;
      this.skipped = "migration rounds are skipped: this build's open() takes no version";
      console.log(this.skipped);
    }
  }

  async #start() {
    this.#number += 1;
    this.#session = null;
    const options = {
      chromium: this.#options.chromium,
      profile: this.#profile,
      port: this.#port,
      names: this.#options.stores,
      onNote: (name, kind, rest) => this.#note(this.subjects.get(name), kind, rest),
    };
    try {
      this.#session = await startSession(options);
    } catch (error) {
      // A browser that does not start is no finding; twice in a row it is a broken machine.
      console.log(`the browser did not start, once more: ${error.message}`);
      this.#session = await startSession(options);
    }
  }

  #note(subject, kind, rest) {
    const words = rest.split(" ");
    if (kind === "ack") subject.acknowledged(...words.map(Number));
    else if (kind === "marker") subject.sawToken(words[0], this.#number);
    else if (kind === "copy") subject.sawCopy(words[0]);
    else if (kind === "refused") subject.refused(words[1]);
    else if (kind === "error") this.#tally(`${subject.name}: ${rest.split("\n")[0]}`);
    this.#awaited.get(`${subject.name} ${kind}`)?.();
  }

  #tally(text) {
    this.errors.set(text, (this.errors.get(text) ?? 0) + 1);
  }

  async #load(name) {
    await this.#session.load(name);
    this.subjects.get(name).sawToken(await this.#session.call(name, "marker"), this.#number);
  }

  #openOptions({ user, version }) {
    return { user, version, durability: this.#options.durability };
  }

  /** A browser with all stores open and checked, if there is something to check. */
  async #open(dice, round, { last = false, kind = null } = {}) {
    await this.#start();
    const often = this.#options.wipe && dice.chance(RENEWED);
    const renew = !last && (often || this.#sinceRenewed >= ROUNDS_A_USER);
    // A migration with nothing queued would be half of one.
    const sync = last || renew || (dice.chance(0.5) && kind !== "migration");
    const found = {};
    await Promise.all(
      this.#options.stores.map(async (name) => {
        const subject = this.subjects.get(name);
        subject.network("offline");
        await this.#load(name);
        if (round) found[name] = await this.#check(subject, sync);
        if (renew || found[name]?.broken) subject.renew();
        if (!round || renew || found[name]?.broken) {
          await this.#session.call(name, "open", this.#openOptions(subject));
        }
      }),
    );
    if (renew) this.#sinceRenewed = 0;
    if (round) await this.#record(round, found);
  }

  async #check(subject, sync) {
    const call = (method, argument) => this.#session.call(subject.name, method, argument);
    let result;
    try {
      await call("open", this.#openOptions(subject));
      result = await check(subject, call, { durability: this.#options.durability, sync });
    } catch (error) {
      // A store that cannot be opened or synced has lost what is in it.
      const findings = new Findings();
      const count = Math.max(1, subject.model.unchecked());
      for (let i = 0; i < count; i += 1)
        findings.add("lost", { why: `unusable: ${error.message}` });
      result = { findings, broken: true };
    }
    const { wiped, copyWiped } = subject;
    subject.count(result, this.#number);
    if (result.error) this.#tally(`${subject.name}, status: ${result.error.code}`);
    return { ...result, wiped, copyWiped };
  }

  async #record(round, found) {
    for (const [name, { findings, wiped, copyWiped, recovered }] of Object.entries(found)) {
      const { lost, torn, duplicated, inWindow } = findings;
      round.found[name] = { wiped, copyWiped, lost, torn, duplicated, inWindow, recovered };
    }
    this.rounds.push(round);
    const { landfall } = found;
    const bad = Object.entries(found).filter(
      ([, it]) => it.findings.bad || it.wiped || it.copyWiped,
    );
    const said = bad.map(([name, { findings: f, wiped, copyWiped }]) => {
      const counts = `lost ${f.lost} duplicated ${f.duplicated} torn ${f.torn}`;
      const window = f.inWindow ? ` in the rescue window ${f.inWindow}` : "";
      const gone = `${wiped ? " WIPED" : ""}${copyWiped ? " COPY WIPED" : ""}`;
      return `${name}${gone} ${counts}${window}`;
    });
    const what = `round ${round.index + 1} ${round.kind}, killed at ${round.killedAfterMs} ms`;
    if (said.length > 0 || this.#options.verbose) console.log(`${what}: ${said.join(" · ")}`);
    round.failed = landfall.findings.bad > 0;
    // The peers' torn records and losses without a wipe would be news as well.
    const strange = Object.values(found).some((it) => it.findings.bad > 0 && !it.wiped);
    if (!round.failed && !strange) return;
    // By session: what is missing may have been written before the last kill.
    const kills = Object.fromEntries(this.subjects.get("landfall").kills);
    const evidence = { seed: this.#options.seed, ...round, kills, findings: {} };
    for (const [name, { findings }] of Object.entries(found)) {
      evidence.findings[name] = findings.evidence;
    }
    await mkdir(this.#options.out, { recursive: true });
    const file = join(
      this.#options.out,
      `seed-${this.#options.seed}-round-${round.index + 1}.json`,
    );
    await writeFile(file, `${JSON.stringify(evidence, null, 1)}\n`);
    console.log(`  seed ${this.#options.seed}; what was missing: ${file}`);
  }

  async #round(index, kind, before) {
    const dice = random(derive(this.#options.seed, index));
    const mode = dice.pick(MODES[kind] ?? ["offline"]);
    const round = { index, kind, mode, found: {} };
    if (kind === "start") {
      // Nothing is checked before: what the last round left is opened, written to, and killed.
      if (before) this.rounds.push({ ...before, checkedWith: index });
      await this.#start();
    } else await this.#open(dice, before, { kind });
    this.#sinceRenewed += 1;
    if (kind === "migration") this.subjects.get("landfall").version += 1;
    // The same choices for all stores, as far as they hold the same.
    const choices = dice.int(0, 1e9);
    for (const subject of this.subjects.values()) {
      this.#prepare(subject, kind, mode, random(choices));
    }
    const acknowledged = this.#acknowledged();
    const began = Date.now();
    await this.#lead(kind, mode !== "offline", dice, round);
    const killedAt = await this.#session.kill();
    round.killedAfterMs = killedAt - began;
    round.killedAt = killedAt;
    for (const [name, subject] of this.subjects) {
      subject.kills.set(this.#number, killedAt);
      round.found[name] = {};
    }
    round.acknowledged = this.#acknowledged().map((count, i) => count - acknowledged[i]);
    // A short run has one at least.
    const damaged = dice.chance(DAMAGED) || index === 0;
    if (this.#options.wipe && damaged) round.damage = await this.#damage(dice);
    return round;
  }

  #acknowledged() {
    return this.#options.stores.map((name) => this.subjects.get(name).totals.acknowledged);
  }

  #prepare(subject, kind, mode, dice) {
    subject.network(mode);
    const { model, next, version } = subject;
    const { style } = this.kinds[kind];
    const session = this.#number;
    // The same choices for all stores, as far as they hold the same.
    const plan = makePlan({ style, dice, model, session, next, version });
    this.#server.plans.set(subject.name, plan);
    if (subject.hasRescue && mode !== "offline") {
      for (let i = dice.int(0, 200); i > 0; i -= 1) {
        const id = `feed-${dice.int(0, 400)}`;
        subject.backend.feed(id, makeRecord(id, (this.#feed += 1), "from another device"));
      }
    }
  }

  async #lead(kind, online, dice, round) {
    const options = (name) => this.#openOptions(this.subjects.get(name));
    await lead({
      kind,
      online,
      dice,
      names: this.#options.stores,
      session: this.#session,
      openOptions: options,
      /** Resolves at the next note of that kind from that page. */
      noted: (name, kind) =>
        new Promise((resolve) => this.#awaited.set(`${name} ${kind}`, resolve)),
      failed: (name, error) => this.#tally(`${name}: ${error.message}`),
      tell: (what) => Object.assign(round, what),
    });
    this.#awaited.clear();
  }

  async #damage(dice) {
    const out = {};
    for (const name of this.#options.stores) {
      const way = dice.pick(["flip", "remove"]);
      out[name] = await damage(folderOf(this.#profile, name, this.#port), way);
      this.damages[out[name]] += 1;
    }
    return out;
  }
}
