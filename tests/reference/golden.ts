// Reads what the reference programs wrote and compares with it; makes the same inputs as golden_io.py.
import { spawn, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { fromTypedArray, type Tensor } from "../../src/torch/index.js";

/** A tensor in a golden file. */
export interface Stored {
  shape: number[];
  dtype: "float32" | "float64";
  data: string;
}

export function readGolden<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`goldens/${name}.json`, import.meta.url), "utf8")) as T;
}

export function valuesOf({ dtype, data }: Stored): Float32Array | Float64Array {
  const bytes = Buffer.from(data, "base64");
  const memory = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  return dtype === "float32" ? new Float32Array(memory) : new Float64Array(memory);
}

/** The numbers of fill() in golden_io.py, float64. */
export function fill(shape: readonly number[], seed: number): Tensor {
  const count = shape.reduce((a, b) => a * b, 1);
  const values = Float64Array.from({ length: count }, (_, i) => ((i * 7919 + seed * 104729 + i * i * 31) % 2003) / 1001.5 - 1);
  return fromTypedArray(values, shape);
}

/** seed_of() of golden_io.py. */
export function seedOf(name: string): number {
  return [...name].reduce((sum, letter, i) => sum + letter.charCodeAt(0) * (i + 1), 0) % 997;
}

/** Expects the shape of `stored`, and every element within `tolerance` (absolute, and relative to the stored value). */
export function expectClose(actual: Tensor, stored: Stored, tolerance = 1e-9, what = ""): void {
  expect(actual.shape, what).toEqual(stored.shape);
  const expected = valuesOf(stored);
  const given = actual.toArray();
  for (const [i, value] of expected.entries()) {
    const difference = Math.abs(given[i]! - value);
    if (!(difference <= tolerance * (1 + Math.abs(value)))) {
      expect.fail(`${what}[${i}]: ${given[i]} is not ${value} (differs by ${difference}, allowed ${tolerance})`);
    }
  }
}

/** The Python with these modules: PYTHON, or python3. */
function pythonWith(modules: readonly string[]): string | undefined {
  const python = process.env.PYTHON || "python3";
  const find = "import importlib.util as u, sys; sys.exit(any(u.find_spec(each) is None for each in sys.argv[1:]))";
  return spawnSync(python, ["-c", find, ...modules]).status === 0 ? python : undefined;
}

/**
 * A test that runs a reference program again and compares with its golden file; its name says what it needs when it cannot run.
 *
 * @param modules what the program needs of Python. Default torch.
 */
export function testRegenerates(name: string, modules: readonly string[] = ["torch"]): void {
  const python = pythonWith(modules);
  const title = python
    ? `${name}.py makes the golden file again`
    : `${name}.py: NOT RUN, there is no Python with ${modules.join(" and ")} (set PYTHON)`;
  test.runIf(python)(title, { timeout: 300_000 }, async () => {
    const program = fileURLToPath(new URL(`${name}.py`, import.meta.url));
    const { status, output } = await run(python!, [program, "--check"]);
    expect(status, output.slice(-2000)).toBe(0);
  });
}

/** Not spawnSync: vitest takes a worker that is silent for a minute for dead. */
function run(command: string, args: readonly string[]): Promise<{ status: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args);
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        output += text;
      });
    }
    child.on("error", reject).on("close", (status) => resolve({ status, output }));
  });
}
