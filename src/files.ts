// Writing files so that a reader never sees half of one: to a temporary name, synced, then renamed.
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readdirSync, renameSync, rmSync, writeSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { isAlive } from "./process.js";

let counter = 0;

/** A name beside `path` for a file in the making; those of dead processes are recognised by their ending. */
export function temporaryName(path: string): string {
  counter += 1;
  return join(dirname(path), `.${basename(path)}.${process.pid}.${counter}.tmp`);
}

/** Removes what processes left in a folder that were killed while they wrote there; what living ones write stays. */
export function removeTemporary(folder: string): void {
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder)) {
    const writer = Number(/\.(\d+)[.-]\d+\.tmp$/.exec(name)?.[1]);
    if (name.endsWith(".tmp") && !(writer !== process.pid && isAlive(writer))) rmSync(join(folder, name), { force: true });
  }
}

function syncFolder(folder: string): void {
  const handle = openSync(folder, "r");
  try {
    fsyncSync(handle);
  } catch {
    // Some file systems cannot sync a folder; the rename itself is still atomic.
  } finally {
    closeSync(handle);
  }
}

/** Runs `write` on a temporary file and puts the result in place of `path`; on any failure `path` stays as it was. */
export function replaceFile(path: string, write: (handle: number) => void): void {
  mkdirSync(dirname(path), { recursive: true });
  const temporary = temporaryName(path);
  try {
    const handle = openSync(temporary, "w");
    try {
      write(handle);
      fsyncSync(handle);
    } finally {
      closeSync(handle);
    }
    renameSync(temporary, path);
    syncFolder(dirname(path));
  } catch (error) {
    if (existsSync(temporary)) rmSync(temporary, { force: true });
    throw error;
  }
}

/** Writes all bytes: a single write may stop short. */
export function writeFully(handle: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.byteLength; ) done += writeSync(handle, bytes, done);
}

/** Puts text in place of a file's content. */
export function replaceText(path: string, text: string): void {
  replaceFile(path, (handle) => writeFully(handle, new TextEncoder().encode(text)));
}
