// The rescue copy by itself, for the browser checks in tests/e2e.
import { openRescue } from "../../npm/rescue.js";

window.openRescue = openRescue;
