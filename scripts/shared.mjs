/**
 * What the set-up scripts share: where the project is, lines of progress on standard error, running programs, root rights.
 * Plain Node and nothing else, because these scripts run before `npm ci` has brought anything.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, renameSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** The project's root folder. */
export const projectRoot = resolve(dirname(fileURLToPath(import.meta.url)), "..");

/** A problem the user can solve; `message` is the one sentence to show, without a stack. */
export class SetupError extends Error {
  name = "SetupError";
}

/** One line of progress on standard error. */
export function say(line) {
  process.stderr.write(`setup: ${line}\n`);
}

/** Seconds since `start` (of performance.now()), for people: "0.4 s", "2 min 05 s". */
export function since(start) {
  const seconds = (performance.now() - start) / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
}

/** Runs a program to its end and gives { ok, stdout, stderr }; a program that is not there is `ok: false`. */
export function run(program, args, options = {}) {
  const done = spawnSync(program, args, { encoding: "utf8", maxBuffer: 1 << 28, ...options });
  return { ok: !done.error && done.status === 0, stdout: done.stdout ?? "", stderr: done.stderr ?? String(done.error ?? "") };
}

/** The words to put before a command to run it as root: none for root, `sudo -n` where it asks no password, else null. */
export function rootPrefix() {
  if (process.getuid?.() === 0) return [];
  return run("sudo", ["-n", "true"]).ok ? ["sudo", "-n"] : null;
}

/** Whether a program is on the PATH. */
export function onPath(program) {
  return run("sh", ["-c", 'command -v "$1"', "sh", program]).ok;
}

let aptUpdated = false;

/**
 * Installs Debian packages where that is possible without asking anything: as root or by `sudo -n`.
 * Returns null when done, else the reason as a phrase.
 */
export function aptInstall(packages) {
  if (!onPath("apt-get")) return "apt-get is not on this machine";
  const prefix = rootPrefix();
  if (prefix === null) return "apt-get needs root, and sudo asks for a password";
  const apt = (...args) => {
    const [program, ...rest] = [...prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", ...args];
    return run(program, rest, { stdio: ["ignore", "pipe", "pipe"] });
  };
  if (!aptUpdated) {
    apt("update"); // A failing mirror is not fatal: the install below tells.
    aptUpdated = true;
  }
  const done = apt("install", "-y", "--no-install-recommends", ...packages);
  if (done.ok) return null;
  const reason = done.stderr.split("\n").find((line) => line.startsWith("E:")) ?? "apt-get failed";
  return `apt-get install ${packages.join(" ")}: ${reason.trim()}`;
}

/** The beginning of a SHA-256 over the parts given, which are kept apart from each other. */
export function digest(parts, length = 16) {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(`${Buffer.byteLength(part)}:`).update(part);
  return hash.digest("hex").slice(0, length);
}

/** Writes a file so that a reader sees the old one or the new one, never half of it. */
export function writeAtomically(path, text) {
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}.tmp`);
  writeFileSync(temporary, text);
  renameSync(temporary, path);
}

/** Free bytes for this user on the file system of an existing folder. */
export function freeBytes(folder) {
  const { bavail, bsize } = statfsSync(folder);
  return bavail * bsize;
}

/** Removes working folders (`.tmp-<pid>`) that a process which is no more left behind. */
export function sweep(folder) {
  for (const name of readdirSync(folder)) {
    const pid = /^\.tmp-(\d+)$/.exec(name)?.[1];
    if (pid === undefined || isAlive(Number(pid))) continue;
    rmSync(join(folder, name), { recursive: true, force: true });
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}

/** Runs a script's main function: a SetupError becomes one line and exit code 1, anything else keeps its stack. */
export async function main(body) {
  try {
    await body();
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    process.stderr.write(`setup: ${error.message}\n`);
    process.exitCode = 1;
  }
}

/** Whether the module with this `import.meta.url` is the program that was started. */
export function isProgram(url) {
  return process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(url);
}
