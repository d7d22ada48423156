// What TypeScript must accept and refuse around conflicts; only compiled, never run.
import { open } from "landfall";
import type { ConflictHandler, StandardSchema } from "landfall";

interface Site {
  id: string;
  name: string;
  visits: number;
}
declare const schema: StandardSchema<Site>;
const common = { name: "app", user: "u" };

export async function check(): Promise<void> {
  const db = await open<{ sites: Site; notes: Site; logs: Site }>({
    ...common,
    collections: {
      sites: {
        key: "id",
        // The sides have the collection's type; one may be missing.
        conflict: ({ base, local, remote, collection, key }) => {
          if (local === null || remote === null) return collection === key ? null : "park";
          const visits: number = local.visits + remote.visits - (base?.visits ?? 0);
          // @ts-expect-error: there is no such field
          void local.nothing;
          return { ...remote, visits };
        },
      },
      notes: { key: "id", conflict: async ({ remote }) => remote },
      logs: { key: "id", conflict: "manual" },
    },
  });
  await db.conflicts.resolve("a.1", "local");
  await db.conflicts.resolve("a.1", { id: "x" });
  await db.conflicts.resolve("a.1", null);
  // @ts-expect-error: no such choice
  await db.conflicts.resolve("a.1", "mine");
  await db.outbox.edit("a.1", { name: "new" });
  for (const { outcome } of await db.conflicts.list()) {
    if (outcome === "waiting" || outcome === "parked") return;
    const settled: "local" | "remote" | "merged" = outcome;
    void settled;
  }

  const found = await open({
    ...common,
    collections: { sites: { key: "id", schema, conflict: ({ local }) => local } },
  });
  const site = await found.collection("sites").get("x");
  void site?.visits.toFixed();

  const typed: ConflictHandler<Site> = ({ local, remote }) => local ?? remote ?? "park";
  await open<{ sites: Site }>({
    ...common,
    collections: { sites: { key: "id", conflict: typed } },
  });
  await open<{ sites: Site }>({
    ...common,
    // @ts-expect-error: no such strategy
    collections: { sites: { key: "id", conflict: "mine" } },
  });
  await open<{ sites: Site }>({
    ...common,
    // @ts-expect-error: not a site
    collections: { sites: { key: "id", conflict: () => ({ id: 1 }) } },
  });
}
