/** The package for the browser checks in tests/e2e, on a page that does nothing by itself. */
import * as landfall from "landfall";

declare global {
  interface Window {
    landfall: Pick<typeof landfall, "open" | "rest" | "ready" | "LandfallError" | "BackendError">;
  }
}

window.landfall = {
  open: landfall.open,
  rest: landfall.rest,
  ready: landfall.ready,
  LandfallError: landfall.LandfallError,
  BackendError: landfall.BackendError,
};
