// Runs the compiled command line as a user does: a process of its own, its two outputs and its exit code.
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import sharp from "sharp";

export const bin = fileURLToPath(new URL("../bin/tessera.js", import.meta.url));

export interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface HowToRun {
  cwd?: string;
  env?: Record<string, string | undefined>;
  /** Called with all of standard error so far whenever there is more of it. */
  onStderr?: (text: string, kill: (signal: NodeJS.Signals) => void) => void;
}

/** A process that has not ended by then is killed, and its code is null. */
const PATIENCE_MS = 240_000;

/** For onStderr: one signal when a text has come. */
export function signalAt(text: string, signal: NodeJS.Signals = "SIGINT"): NonNullable<HowToRun["onStderr"]> {
  let sent = false;
  return (stderr, kill) => {
    if (sent || !stderr.includes(text)) return;
    sent = true;
    kill(signal);
  };
}

/** Runs `tessera ...args` to its end. One thread each: tests run side by side. */
export function tessera(args: readonly string[], { cwd, env = {}, onStderr }: HowToRun = {}): Promise<Ended> {
  const child = spawn(process.execPath, [bin, ...args], {
    ...(cwd !== undefined && { cwd }),
    env: { ...process.env, TESSERA_THREADS: "1", TESSERA_DEBUG: undefined, ...env },
  });
  const patience = setTimeout(() => child.kill("SIGKILL"), PATIENCE_MS);
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (chunk) => {
    stdout += chunk;
  });
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
    onStderr?.(stderr, (signal) => child.kill(signal));
  });
  return new Promise((settle, refuse) => {
    child.on("error", refuse);
    child.on("close", (code) => {
      clearTimeout(patience);
      settle({ code, stdout, stderr });
    });
  });
}

/** Four files as Fashion-MNIST has them: noisy images whose class is which row is bright. */
export function writeTinyFashionMnist(folder: string, { train = 96, test = 32 } = {}): void {
  for (const [prefix, count] of [["train", train] as const, ["t10k", test] as const]) {
    const images = Buffer.alloc(16 + count * 784);
    for (const [i, value] of [0x0803, count, 28, 28].entries()) images.writeUInt32BE(value, 4 * i);
    const labels = Buffer.alloc(8 + count);
    for (const [i, value] of [0x0801, count].entries()) labels.writeUInt32BE(value, 4 * i);
    let noise = 1;
    for (let i = 0; i < count; i++) {
      labels[8 + i] = i % 10;
      for (let p = 0; p < 784; p++) {
        noise = (noise * 48271) % 2147483647;
        images[16 + i * 784 + p] = (Math.floor(p / 28 / 2.8) === i % 10 ? 160 : 0) + (noise % 64);
      }
    }
    writeFileSync(join(folder, `${prefix}-images-idx3-ubyte`), images);
    writeFileSync(join(folder, `${prefix}-labels-idx1-ubyte`), labels);
  }
}

/** A JPEG of one colour with a stripe. */
export async function writeImage(path: string, hue: number): Promise<void> {
  const pixels = Buffer.alloc(32 * 32 * 3);
  for (let p = 0; p < 32 * 32; p++) pixels.set(p % 32 < 8 ? [255, 255, 255] : [hue, 255 - hue, 128], 3 * p);
  writeFileSync(
    path,
    await sharp(pixels, { raw: { width: 32, height: 32, channels: 3 } })
      .jpeg()
      .toBuffer(),
  );
}
