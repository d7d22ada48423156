// landfall: the package's entry. Loads the wasm on the first open().

import init, { Core, reach } from "./wasm/landfall.js";
import { BackendError, LandfallError, fail } from "./errors.js";
import { SyncManager } from "./manager.js";
import { checkOptions } from "./options.js";
import { rest } from "./rest.js";

let loading = null;

/** Loads the wasm, once; a failed load can be tried again. */
export function ready(wasm) {
  loading ??= init(wasm === undefined ? undefined : { module_or_path: wasm }).catch((error) => {
    loading = null;
    throw fail(
      "wasm-failed",
      `the WebAssembly module could not be loaded: ${error?.message ?? error}`,
      error,
    );
  });
  return loading.then(() => {});
}

/** Opens (or creates) the database of this app and user, and starts to sync. */
export async function open(options) {
  const { name, user, core, migrate, schemas, handlers } = checkOptions(options);
  const { backend, persist, rescue } = options;
  return new SyncManager(name, user, core.database).start(Core, core, {
    loaded: ready(options.wasm),
    reach,
    backend,
    migrate,
    schemas,
    handlers,
    persist,
    rescue,
  });
}

export { BackendError, LandfallError, rest };
