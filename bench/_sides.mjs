// The two sides of a comparison: processes that say in one line of JSON what they are, then measure on demand: each line they are given is a
// number of repeats, and is answered by their seconds. So they can take turns, and a noisy neighbour disturbs both.
import { spawn, spawnSync } from "node:child_process";
import { cpus } from "node:os";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { spread } from "./_stats.mjs";

/** Processor seconds of all processes of this machine. */
const busySeconds = () => cpus().reduce((sum, { times }) => sum + (times.user + times.nice + times.sys) / 1000, 0);

/** Waits until the machine does next to nothing, at most 20 seconds: a loader goes on for a while after its turn. */
export async function settled() {
  const interval = 0.25;
  for (let waited = 0; waited < 20; waited += interval) {
    const before = busySeconds();
    await sleep(1000 * interval);
    if (busySeconds() - before < interval / 5) return;
  }
}

/** A process that measures on demand. */
export class Side {
  #child;
  #lines;
  #errors = "";
  #what;
  /** What it said it is. */
  facts;
  times = { wall: [], cpu: [] };
  /** The median of each turn. */
  turns = { wall: [], cpu: [] };

  /** Starts it and waits until it is ready. @throws Error with its last words where it ends instead */
  static async start(name, [program, ...args], env = {}) {
    const side = new Side();
    side.name = name;
    side.#what = [program, ...args].join(" ");
    side.#child = spawn(program, args, { env: { ...process.env, ...env }, stdio: ["pipe", "pipe", "pipe"] });
    side.#child.on("error", () => {});
    side.#child.stdin.on("error", () => {});
    side.#child.stderr.on("data", (text) => {
      side.#errors = `${side.#errors}${text}`.slice(-4000);
    });
    side.#lines = createInterface({ input: side.#child.stdout })[Symbol.asyncIterator]();
    side.facts = await side.#answer();
    return side;
  }

  async #answer() {
    const { done, value } = await this.#lines.next();
    if (!done) return JSON.parse(value);
    throw new Error(
      `${this.name} ended before it answered: ${this.#what}\n${this.#errors.trim().split("\n").slice(-8).join("\n")}`,
    );
  }

  /** One turn. */
  async measure(repeats) {
    this.#child.stdin.write(`${repeats}\n`);
    const { wall, cpu, rate } = await this.#answer();
    for (const [clock, seconds] of Object.entries({ wall, cpu })) {
      this.times[clock].push(...seconds);
      this.turns[clock].push(spread(seconds).median);
    }
    for (const [clock, each] of Object.entries(rate ?? {})) this.facts.rate[clock] = Math.max(this.facts.rate[clock], each);
  }

  /** The least, the median and the greatest of all turns. */
  spread(clock) {
    return spread(this.times[clock]);
  }

  stop() {
    this.#child.stdin.end();
    this.#child.kill();
  }
}

/** A Python with torch: PYTHON, else python3. Null where there is none. */
export function findPython(env = process.env) {
  const program = env.PYTHON || "python3";
  const asked = spawnSync(program, ["-c", "import torch; print(torch.__version__)"], { encoding: "utf8" });
  return asked.status === 0 ? { program, torch: asked.stdout.trim() } : null;
}
