// What runs inside a tab of the blank page. This function travels as text: it must not refer to
// anything outside itself.

export function addLab() {
  window.lab = {
    /** How the token was asked for: the `refresh` of each question. */
    asked: [],
    /** What `headers` answers with; tests change them. */
    token: "",
    fresh: "",
    /** The phases and errors that the status went through. */
    phases: [],
    errors: [],
    /** What was told of a database that was thrown away. */
    recovered: [],

    async open({ user, token, fresh, timeout, realtime, name = "lab", ...more }) {
      const { open, rest } = window.landfall;
      const { lab } = window;
      lab.token = token;
      lab.fresh = fresh ?? token;
      const backend = rest({
        url: "/api/v1/sync",
        headers: ({ refresh }) => {
          lab.asked.push(refresh);
          if (refresh) lab.token = lab.fresh;
          return { authorization: `Bearer ${lab.token}` };
        },
        ...(timeout === undefined ? {} : { timeout }),
        ...(realtime === undefined ? {} : { realtime }),
      });
      const collections = {
        sites: { key: "id", indexes: ["name"] },
        assessments: { key: "id", indexes: ["siteId"], references: { siteId: "sites" } },
      };
      const db = await open({ name, user, backend, collections, ...more });
      window.db = db;
      db.on("recovered", (what) => lab.recovered.push(what));
      lab.sites = db.collection("sites");
      lab.assessments = db.collection("assessments");
      db.subscribe(({ phase, error }) => {
        if (lab.phases.at(-1) !== phase) lab.phases.push(phase);
        if (error && lab.errors.at(-1) !== error.code) lab.errors.push(error.code);
      });
    },

    synced: (limitMs = 12_000) => window.db.whenSynced({ signal: AbortSignal.timeout(limitMs) }),

    /** Waits for a status; `what` is the body of a function of `s`. */
    waitFor: (what, limitMs = 12_000) =>
      window.db.waitFor(new Function("s", `return ${what}`), {
        signal: AbortSignal.timeout(limitMs),
      }),

    /** The error that `work` fails with, in a form that can travel; null if it does not fail. */
    async errorOf(work) {
      try {
        await work();
        return null;
      } catch (error) {
        const { code, message, hint, retryable } = error;
        const proper = error instanceof window.landfall.LandfallError && error instanceof Error;
        return { code, message, hint, retryable, proper };
      }
    },
  };
}
