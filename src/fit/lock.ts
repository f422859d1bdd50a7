// One process at a time trains in a run folder: two would write the same checkpoints and log between each other.
import { rmSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { takeLock } from "../lock.js";
import { RunError } from "./errors.js";

/**
 * Takes a run folder for this process; the function that is returned gives it back.
 *
 * @throws RunError that names the process which has the folder
 */
export function lockRun(folder: string): () => void {
  const path = join(folder, "lock.json");
  const owner = takeLock(path);
  if (!owner) return () => rmSync(path, { force: true });
  const where = owner.host === hostname() ? "" : ` on ${owner.host}`;
  throw new RunError(
    `${folder} is in use by process ${owner.pid}${where}: wait until it ends or stop it; if it is long gone, remove ${path}`,
  );
}
