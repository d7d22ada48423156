// The rescue copy as a file: a worker, because only workers have files that append and flush. It is
// asked with `[what, argument]`, by one tab at a time (the tab holds a lock), and answers in order.
//
// The folder holds numbered files. The newest is appended to; older ones are there only where a
// replacement was cut short, and are then read with it. The handle is open only while it is used: it
// is exclusive, and other tabs have their turn.

/** What is read where only the newest entry is asked for. */
const END_BYTES = 65_536;

let folder;
/** The name of the file that was the newest when this tab last looked. */
let newest;

async function numbers() {
  const found = [];
  for await (const name of folder.keys()) found.push(Number(name));
  return found.sort((a, b) => a - b);
}

/** Folder and newest file as they are now. */
async function look(id) {
  const root = await navigator.storage.getDirectory();
  folder = await root.getDirectoryHandle(id, { create: true });
  newest = (await numbers()).at(-1) ?? 1;
}

async function fileOf(number) {
  return (await folder.getFileHandle(String(number))).getFile();
}

async function append(number, text, create) {
  const file = await folder.getFileHandle(String(number), { create });
  const handle = await file.createSyncAccessHandle();
  try {
    const bytes = new TextEncoder().encode(text);
    const at = await handle.getSize();
    // A full disk throws or, in some browsers, writes less.
    let written = 0;
    try {
      written = handle.write(bytes, { at });
    } finally {
      if (written < bytes.length) await handle.truncate(at);
    }
    if (written < bytes.length) throw new DOMException("the disk is full", "QuotaExceededError");
    await handle.flush();
  } finally {
    await handle.close();
  }
}

const WORK = {
  async open(id) {
    await look(id);
    // Shows whether this browser can do it.
    await append(newest, "", true);
  },

  async add(text) {
    try {
      await append(newest, text, false);
      return false;
    } catch (error) {
      if (error.name !== "NotFoundError") throw error;
      // Another tab has replaced the file, or deleted all.
      await look(folder.name);
      const isNew = (await numbers()).length === 0;
      await append(newest, text, true);
      return isNew;
    }
  },

  async all() {
    const texts = [];
    for (const number of await numbers()) texts.push(await (await fileOf(number)).text());
    return texts.join("\n");
  },

  async last() {
    await look(folder.name);
    const file = await fileOf(newest);
    return file.slice(-END_BYTES).text();
  },

  async replace(text) {
    const old = await numbers();
    newest = (old.at(-1) ?? 0) + 1;
    await append(newest, text, true);
    // The oldest first, so that a kill leaves a tail of what was.
    for (const number of old) await folder.removeEntry(String(number));
  },

  async remove() {
    const root = await navigator.storage.getDirectory();
    await root.removeEntry(folder.name, { recursive: true });
  },
};

onmessage = async ({ data: [what, argument] }) => {
  try {
    postMessage({ result: await WORK[what](argument) });
  } catch (error) {
    postMessage({ error });
  }
};
