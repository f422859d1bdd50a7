// For tests that count handles.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** What other tests left outside of scopes would otherwise be collected between two counts of handles. */
export function collectGarbage(): void {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
}
