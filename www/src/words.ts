/** How the page says what landfall reports, in words for people. */
import type { Conflict, MutationState, OutboxEntry, RecordState, Status } from "landfall";
import type { Site, SiteStatus } from "./model.ts";

/** Colours follow the tone; the words stand beside them, so that nobody depends on the colour. */
export type Tone = "good" | "busy" | "waiting" | "bad" | "conflict" | "quiet";

const number = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", hour12: false });
const day = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", year: "numeric" });
const countries = new Intl.DisplayNames("en", { type: "region", fallback: "code" });

export function count(value: number): string {
  return number.format(value);
}

export function counted(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

export function time(at: number): string {
  const date = new Date(at);
  const today = date.toDateString() === new Date().toDateString();
  return today ? clock.format(date) : `${day.format(date)}, ${clock.format(date)}`;
}

export function countryName(code: string): string {
  try {
    return countries.of(code) ?? code;
  } catch {
    return code;
  }
}

/** A code like "84" or "B3" tells a reader nothing; a name of a region does. */
function isName(region: string): boolean {
  return region !== "" && !/\d/.test(region) && !/^[A-Z]{1,5}$/.test(region);
}

export function placeOf(site: Site): string {
  const named = [site.admin2, site.admin1].filter(isName);
  return [...new Set([...named, countryName(site.country)])].join(", ");
}

export function coordinatesOf(site: Site): string {
  const lat = Number(site.lat);
  const lng = Number(site.lng);
  const part = (value: number, plus: string, minus: string) =>
    `${Math.abs(value).toFixed(4)}° ${value < 0 ? minus : plus}`;
  return `${part(lat, "N", "S")}, ${part(lng, "E", "W")}`;
}

export const siteStatusWords: Record<SiteStatus, string> = {
  planned: "Visit planned",
  surveyed: "Surveyed",
  revisit: "Needs another visit",
  "no-access": "No access",
};

export interface Said {
  text: string;
  tone: Tone;
}

export function waiting(status: Status): number {
  return status.outbox.pending + status.outbox.syncing;
}

function progressWords(status: Status): string | null {
  const { progress } = status;
  if (!progress) return null;
  const what = progress.direction === "push" ? "Sending" : "Fetching";
  if (progress.total !== null) return `${what} ${count(progress.done)} of ${count(progress.total)}`;
  return progress.done > 0 ? `${what}, ${count(progress.done)} so far` : `${what}…`;
}

/** The badge of a device: what it is doing and how much is not on the server yet. */
export function phaseWords(status: Status): Said {
  const queued = waiting(status);
  const rest = queued > 0 ? ` · ${count(queued)} waiting` : "";
  switch (status.phase) {
    case "idle":
      if (status.outbox.failed > 0) {
        return { text: `${counted(status.outbox.failed, "change")} not accepted`, tone: "bad" };
      }
      return queued > 0
        ? { text: `${count(queued)} waiting`, tone: "waiting" }
        : {
            text: `All changes synced${status.realtime === "live" ? " · live" : ""}`,
            tone: "good",
          };
    case "syncing":
      return { text: progressWords(status) ?? `Syncing${rest}`, tone: "busy" };
    case "offline":
      return status.network === "unreachable"
        ? { text: `Out of reach${rest}`, tone: "waiting" }
        : { text: `Offline${rest}`, tone: "waiting" };
    case "paused":
      return { text: `Paused${rest}`, tone: "quiet" };
    case "needs-auth":
      return { text: `Signed out${rest}`, tone: "bad" };
    case "error":
      return status.error?.retryable
        ? { text: `Trying again${rest}`, tone: "waiting" }
        : { text: `Needs attention${rest}`, tone: "bad" };
    case "closed":
      return { text: "Closed", tone: "quiet" };
  }
}

/** What a screen reader hears: the changes of phase, not every step of the progress. */
export function spokenPhase(status: Status): string {
  return status.phase === "syncing" ? "Syncing" : phaseWords(status).text;
}

export const recordStates: Record<RecordState, Said> = {
  synced: { text: "Synced", tone: "good" },
  pending: { text: "Queued", tone: "waiting" },
  syncing: { text: "Sending", tone: "busy" },
  conflict: { text: "Conflict", tone: "conflict" },
  failed: { text: "Failed", tone: "bad" },
  local: { text: "Only here", tone: "quiet" },
};

export const mutationStates: Record<MutationState, Said> = recordStates;

export function actionWords(entry: OutboxEntry): string {
  const what = entry.collection === "sites" ? "site" : "assessment";
  const verb = { create: "New", update: "Edited", delete: "Deleted" }[entry.action];
  return `${verb} ${what}`;
}

/** The second line of a queued item: how often it was tried and what it waits for. */
export function attemptWords(entry: OutboxEntry): string {
  const parts = [`made ${time(entry.createdAt)}`];
  // Only answers that blame the change count as attempts; a dead line does not.
  if (entry.attempts > 0) parts.push(`tried ${counted(entry.attempts, "time")}`);
  else if (entry.lastAttemptAt !== null) parts.push(`last tried ${time(entry.lastAttemptAt)}`);
  else parts.push("no answer yet");
  if (entry.waitsFor !== null) parts.push("waits for the site it belongs to");
  else if (entry.state === "pending" && (entry.nextAttemptAt ?? 0) > Date.now()) {
    parts.push(`next try ${time(entry.nextAttemptAt ?? 0)}`);
  }
  return parts.join(" · ");
}

export const outcomeWords: Record<Conflict["outcome"], string> = {
  local: "This device’s version was kept",
  remote: "The server’s version was kept",
  merged: "Both versions were joined",
  waiting: "Waits to be settled",
  parked: "Could not be settled; see the queue",
};

export const strategyWords: Record<Conflict["strategy"], string> = {
  "last-write-wins": "the later change wins",
  "server-wins": "the server wins",
  "client-wins": "the device wins",
  merge: "field by field",
  manual: "by hand",
  function: "by the app",
};

const fields: Record<string, string> = {
  note: "Note",
  notes: "Notes",
  status: "Status",
  title: "Title",
  score: "Score",
  name: "Name",
  createdAt: "Made",
  siteId: "Site",
};

export function fieldName(field: string): string {
  return fields[field] ?? field;
}

export function fieldValue(field: string, value: unknown): string {
  if (value === undefined || value === null || value === "") return "empty";
  if (field === "createdAt" && typeof value === "number") return time(value);
  if (field === "status") return siteStatusWords[value as SiteStatus] ?? String(value);
  if (typeof value === "string" || typeof value === "number") return String(value);
  return JSON.stringify(value);
}

/** An error in one sentence and, if there is one, what to do about it. */
export function errorWords(error: unknown): { message: string; hint: string } {
  if (error instanceof Error) {
    const hint = "hint" in error && typeof error.hint === "string" ? error.hint : "";
    return { message: error.message, hint };
  }
  return { message: String(error), hint: "" };
}
