// Reads `GET /stream` of docs/PROTOCOL.md: server-sent events by fetch, since an EventSource cannot send
// credentials in a header.

/** The server says something at least every 25 s: a connection that is silent for longer is dead. */
const SILENCE_MS = 60_000;
/** A longer line is not one of ours. */
const LINE_MAX = 64 * 1024;

/** Calls `poke(id)` for each event `poke`, until the stream ends. */
export async function readEvents(body, poke, silence = SILENCE_MS) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const event = { name: "", id: undefined };
  let rest = "";
  let timer;
  try {
    for (;;) {
      // Also ends what waits in read().
      timer = setTimeout(() => reader.cancel().catch(() => {}), silence);
      const { done, value } = await reader.read();
      clearTimeout(timer);
      if (done) return;
      const lines = (rest + decoder.decode(value, { stream: true })).split(/\r\n|\n/);
      rest = lines.pop();
      if (rest.length > LINE_MAX) return void reader.cancel().catch(() => {});
      for (const line of lines) take(event, line, poke);
    }
  } finally {
    clearTimeout(timer);
  }
}

function take(event, line, poke) {
  if (line === "") {
    if (event.name === "poke") poke(event.id);
    event.name = "";
    return;
  }
  const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
  if (field === "event") event.name = value;
  if (field === "id") event.id = value;
}
