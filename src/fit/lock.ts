// One process at a time trains in a run folder: two would write the same checkpoints and log between each other.
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { isAlive } from "../process.js";
import { RunError } from "./errors.js";

interface Owner {
  pid: number;
  host: string;
}

/**
 * Takes a run folder for this process; the function that is returned gives it back. A lock that a killed process left is taken over; one
 * of another machine cannot be looked at, so it stays.
 *
 * @throws RunError that names the process which has the folder
 */
export function lockRun(folder: string): () => void {
  const path = join(folder, "lock.json");
  const own: Owner = { pid: process.pid, host: hostname() };
  for (;;) {
    try {
      writeFileSync(path, `${JSON.stringify(own)}\n`, { flag: "wx" });
      return () => rmSync(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const owner = ownerOf(path);
    if (owner && (owner.host !== own.host || isAlive(owner.pid))) {
      const where = owner.host === own.host ? "" : ` on ${owner.host}`;
      throw new RunError(
        `${folder} is in use by process ${owner.pid}${where}: wait until it ends or stop it; if it is long gone, remove ${path}`,
      );
    }
    rmSync(path, { force: true });
  }
}

/** Null where the file is gone or was not finished, which a process that was killed may leave. */
function ownerOf(path: string): Owner | null {
  try {
    const { pid, host } = JSON.parse(readFileSync(path, "utf8")) as Partial<Owner>;
    return typeof pid === "number" && typeof host === "string" ? { pid, host } : null;
  } catch {
    return null;
  }
}
