// What a tab does in the soak: writes and reads without a rest until it is told to halt. This function
// travels as text: it must not refer to anything outside itself.

/** `me` names this load of the page; `window.journal(key)` notes what was acknowledged, outside. */
export function writeOn(me) {
  const { lab, db } = window;
  const below = (n) => Math.floor(Math.random() * n);
  const soak = { writes: 0, told: 0, errors: {}, halt: false, entries: 0 };
  window.soak = soak;
  lab.sites.subscribe({ index: "name", limit: 20 }, () => (soak.told += 1));

  async function change(id) {
    const known = await lab.sites.get(id);
    if (!known) return lab.sites.put({ id, name: "new" });
    return lab.sites.update(id, { [`by-${me}`]: below(1e6), name: `n${below(1_000)}` });
  }

  function several() {
    const from = below(380);
    const record = (_, n) => ({ id: `s${from + n}`, name: `b${below(1_000)}` });
    return lab.sites.putMany(Array.from({ length: 20 }, record));
  }

  function both(id) {
    return db.transaction(async (tx) => {
      await tx.collection("sites").put({ id, name: "tx" });
      await tx.collection("assessments").put({ id: `a${below(200)}`, siteId: id, by: me });
    });
  }

  /** A record that is written once and by nobody else: it must arrive, once. */
  async function entry() {
    const id = `${me}-${(soak.entries += 1)}`;
    await lab.assessments.create({ id, siteId: null });
    window.journal(id);
  }

  async function loop() {
    while (!soak.halt) {
      const id = `s${below(400)}`;
      const what = below(10);
      try {
        if (what < 5) await change(id);
        else if (what < 6) await several();
        else if (what < 7) await lab.sites.delete(id);
        else if (what < 8) await both(id);
        else if (what < 9) await entry();
        else await lab.sites.find({ index: "name", limit: 10 });
        if (what < 9) soak.writes += 1;
      } catch ({ code, message }) {
        // Another tab may have deleted it in between.
        if (code !== "not-found") soak.errors[code ?? message] = message;
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  soak.ended = Promise.all([loop(), loop(), loop()]);
}
