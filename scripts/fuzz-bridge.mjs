/**
 * The fuzz of the native bridge: random operators of the whole dispatcher with random and hostile arguments, in child processes, so that
 * what ends a process is known by name. No input from JavaScript may end it: exit code 0 means that none did.
 *
 *   node scripts/fuzz-bridge.mjs --calls 100000 --seed 1 [--jobs 2] [--seconds 20] [--operator NAME] [--skip REGEXP] [--json]
 *   node scripts/fuzz-bridge.mjs --seed 1 --only 4711     makes one call again and shows its arguments
 *
 * A call that takes longer than --seconds is ended and counted as slow: asking for the sum over 2^40 elements is no crash. Children have
 * a limit on their memory, as the allocator has, so that a call that wants all of it fails instead.
 */
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const CHILD = fileURLToPath(new URL("fuzz/calls.mjs", import.meta.url));

/** Calls of one process; what a crash loses is made up by the next one. */
const BATCH = 5000;

/** The allocator looks whether a kernel wrote past the end of a tensor, which would crash at some later call or never. */
const ENVIRONMENT = { ...process.env, TESSERA_CHECK_MEMORY: "1" };

/** Seconds that a child may take to load libtorch on a busy machine. */
const START = 120;

/** Kilobytes of data a child may have: an allocation beyond it fails. */
const MEMORY = 6_000_000;

const { values: options } = parseArgs({
  options: {
    calls: { type: "string", default: "100000" },
    seed: { type: "string", default: "1" },
    jobs: { type: "string", default: "2" },
    seconds: { type: "string", default: "20" },
    only: { type: "string" },
    operator: { type: "string" },
    skip: { type: "string" },
    json: { type: "boolean", default: false },
  },
});

const folder = mkdtempSync(join(tmpdir(), "fuzz-bridge-"));
const extra = [
  ...(options.operator ? [`--operator=${options.operator}`] : []),
  ...(options.skip ? [`--skip=${options.skip}`] : []),
];
const total = { calls: 0, returned: 0, threw: 0, slow: [], crashes: [] };

/** The command of a child that makes calls first ... last - 1. */
function command(first, last, log, ...flags) {
  const node = ["--expose-gc", CHILD, options.seed, first, last, log, ...extra, ...flags].map(String);
  return ["sh", ["-c", `ulimit -c 0; ulimit -d ${MEMORY}; exec "$0" "$@"`, process.execPath, ...node]];
}

function logged(log) {
  try {
    const [call, returned, threw, ...name] = readFileSync(log, "latin1").trim().split(" ");
    return call ? { call: Number(call), returned: Number(returned), threw: Number(threw), operator: name.join(" ") } : null;
  } catch {
    return null;
  }
}

/** One child; settles with where it came to an end before its time, or null. */
function runChild(first, last, log) {
  return new Promise((settle) => {
    writeFileSync(log, "");
    const child = spawn(...command(first, last, log), { stdio: ["ignore", "pipe", "pipe"], cwd: folder, env: ENVIRONMENT });
    let [stdout, stderr, slow] = ["", "", false];
    child.stdout.on("data", (chunk) => {
      stdout += chunk;
    });
    child.stderr.on("data", (chunk) => {
      stderr = (stderr + chunk).slice(-4000);
    });
    let [seen, since] = [-1, Date.now()];
    const watch = setInterval(() => {
      const at = logged(log)?.call ?? -1;
      if (at !== seen) [seen, since] = [at, Date.now()];
      else if (Date.now() - since > (at < 0 ? START : Number(options.seconds)) * 1000) {
        slow = true;
        child.kill("SIGKILL");
      }
    }, 500);
    child.on("close", (status, signal) => {
      clearInterval(watch);
      const at = logged(log) ?? { call: first, returned: 0, threw: 0, operator: "(start)" };
      const { returned, threw } = status === 0 ? JSON.parse(stdout.slice(stdout.lastIndexOf("{"))) : at; // a library may have printed
      total.returned += returned;
      total.threw += threw;
      settle(status === 0 ? null : { call: at.call, operator: at.operator, slow, how: signal ?? `exit ${status}`, stderr });
    });
  });
}

async function worker(batches, log) {
  for (let batch = batches.shift(); batch; batch = batches.shift()) {
    for (let [first, last] = batch; first < last; ) {
      const end = await runChild(first, last, log);
      if (!end) break;
      const { slow, ...what } = end;
      (slow ? total.slow : total.crashes).push(what);
      if (!options.json) process.stdout.write(`${slow ? "slow" : "CRASH"} ${what.how} call ${what.call}: ${what.operator}\n`);
      first = Math.max(end.call, first) + 1;
    }
    total.calls += batch[1] - batch[0];
  }
}

try {
  if (options.only !== undefined) {
    const only = Number(options.only);
    const [program, args] = command(only, only + 1, join(folder, "log"), "--show");
    const done = spawnSync(program, args, { stdio: "inherit", cwd: folder, env: ENVIRONMENT });
    process.stdout.write(`${done.signal ?? `exit ${done.status}`}\n`);
    process.exitCode = done.status === 0 ? 0 : 1;
  } else {
    const calls = Number(options.calls);
    const batches = Array.from({ length: Math.ceil(calls / BATCH) }, (_, i) => [i * BATCH, Math.min(calls, (i + 1) * BATCH)]);
    await Promise.all(Array.from({ length: Number(options.jobs) }, (_, i) => worker(batches, join(folder, `log-${i}`))));
    if (options.json) process.stdout.write(`${JSON.stringify(total)}\n`);
    else {
      const names = (list) => [...new Set(list.map((each) => each.operator))].sort().join(", ");
      process.stdout.write(
        `${total.calls} calls: ${total.returned} returned, ${total.threw} threw, ${total.slow.length} slow (${names(total.slow)}), ` +
          `${total.crashes.length} crashes (${names(total.crashes)})\n`,
      );
    }
    process.exitCode = total.crashes.length === 0 ? 0 : 1;
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
