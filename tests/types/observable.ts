// A manager is what RxJS's `from` takes; only compiled, never run.
import type { Status, SyncManager } from "landfall";

/** RxJS's `InteropObservable`. */
interface Interop<T> {
  [Symbol.observable]: () => {
    subscribe(observer: Partial<{ next(value: T): void; error(e: unknown): void }>): {
      unsubscribe(): void;
    };
  };
}
declare function from<T>(input: Interop<T>): T;

export function check(db: SyncManager): Status {
  return from(db);
}
