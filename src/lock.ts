// A file that says which process has something to itself.
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { isAlive } from "./process.js";

export interface LockOwner {
  pid: number;
  host: string;
}

/**
 * Takes the lock at `path` for this process, which gives it back by removing the file. A lock that a killed process left is taken over; one of
 * another machine cannot be looked at, so it stays.
 *
 * @returns who has it instead; null where it was taken
 */
export function takeLock(path: string): LockOwner | null {
  const own: LockOwner = { pid: process.pid, host: hostname() };
  for (;;) {
    try {
      writeFileSync(path, `${JSON.stringify(own)}\n`, { flag: "wx" });
      return null;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const owner = ownerOf(path);
    if (owner && (owner.host !== own.host || isAlive(owner.pid))) return owner;
    rmSync(path, { force: true });
  }
}

/** Null where the file is gone or was not finished, which a process that was killed may leave. */
function ownerOf(path: string): LockOwner | null {
  try {
    const { pid, host } = JSON.parse(readFileSync(path, "utf8")) as Partial<LockOwner>;
    return typeof pid === "number" && typeof host === "string" ? { pid, host } : null;
  } catch {
    return null;
  }
}
