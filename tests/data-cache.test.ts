// Decoded images kept in a file: the same bytes as without, from one process to the next, whatever happened in between.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import sharp, { type Sharp } from "sharp";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ArrayDataset, cachedInFile, openDataset, sharedBytes } from "../src/data/index.js";

const runner = fileURLToPath(new URL("fixtures/cache-run.mjs", import.meta.url));
const COUNT = 12;
const BYTES = 1 << 20;
let root: string;
let counter = 0;

/** Writes a PNG of this age: whole seconds, which can be set again to the last bit. */
async function save(path: string, image: Sharp, seconds: number): Promise<void> {
  await image.png().toFile(path);
  utimesSync(path, seconds, seconds);
}

/** A folder of images of several sizes. */
async function photos(): Promise<string> {
  const folder = mkdtempSync(join(root, "photos-"));
  for (let i = 0; i < COUNT; i++) {
    const [width, height, channels] = [30 + i, 40 - i, i % 3 === 0 ? 1 : 3] as const;
    const data = Uint8Array.from({ length: width * height * channels }, (_, k) => (k * (i + 3)) & 255);
    await save(join(folder, `${i}.png`), sharp(data, { raw: { width, height, channels } }), 1);
  }
  return folder;
}

const newFolder = () => join(root, `cache-${counter++}`);

/** Two epochs in a process of its own: a hash of all that came. */
function run(photos: string, cache: string, options: { bytes?: number; workers?: number } = {}): string {
  const { bytes = BYTES, workers = 2 } = options;
  return execFileSync(process.execPath, [runner, photos, cache, String(bytes), String(workers)], { encoding: "utf8" });
}

/** The file of a cache with this ending. */
function fileOf(cache: string, ending: string): string {
  const names = readdirSync(cache).filter((name) => name.endsWith(ending));
  expect(names).toHaveLength(1);
  return join(cache, names[0]!);
}

/** Other content of the same size, and as old as before: only who decodes it notices. */
function spoil(path: string): void {
  const { size, mtimeMs } = statSync(path);
  writeFileSync(path, new Uint8Array(size));
  utimesSync(path, mtimeMs / 1000, mtimeMs / 1000);
}

let whole: string;
let expected: string;
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "tessera-cache-"));
  whole = await photos();
  expected = run(whole, "none");
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

describe("a cache in a file", () => {
  it("gives the same bytes, with or without room, and is never larger than its bound", () => {
    for (const [bytes, workers] of [
      [BYTES, 0],
      [BYTES, 3],
      [20_000, 2],
      [1, 0],
    ] as const) {
      const cache = newFolder();
      expect(run(whole, cache, { bytes, workers })).toBe(expected);
      expect(run(whole, cache, { bytes, workers })).toBe(expected);
      expect(statSync(fileOf(cache, ".pixels")).size).toBeLessThanOrEqual(bytes);
      expect(readdirSync(cache).filter((name) => name.endsWith(".lock"))).toEqual([]);
    }
  });

  it("is read by the next process, but for files that have changed", async () => {
    const [own, cache] = [await photos(), newFolder()];
    expect(run(own, cache)).toBe(expected);
    for (let i = 0; i < COUNT; i++) spoil(join(own, `${i}.png`));
    expect(run(own, cache)).toBe(expected);
    await save(join(own, "3.png"), sharp({ create: { width: 50, height: 50, channels: 3, background: "red" } }), 2);
    const changed = run(own, cache);
    expect(changed).not.toBe(expected);
    spoil(join(own, "3.png"));
    expect(run(own, cache)).toBe(changed);
  });

  it("is another one for other pixels", async () => {
    const cache = newFolder();
    for (const spec of [`folder:${whole}`, `folder:${whole}?shrinkTo=20`, `folder:${whole}?subset=6`]) {
      cachedInFile(await openDataset(spec), cache, BYTES);
    }
    expect(readdirSync(cache).filter((name) => name.endsWith(".pixels"))).toHaveLength(3);
  });

  it("outlives a process that is killed, and a lock that it leaves", async () => {
    const cache = newFolder();
    const child = spawn(process.execPath, [runner, whole, cache, String(BYTES), "2", "kill"]);
    const [, signal] = await once(child, "exit");
    expect(signal).toBe("SIGKILL");
    expect(existsSync(fileOf(cache, ".lock"))).toBe(true);
    expect(run(whole, cache)).toBe(expected);
    expect(existsSync(fileOf(cache, ".index"))).toBe(true);
  });

  it("is only read while another process adds to it", () => {
    const cache = newFolder();
    run(whole, cache, { bytes: 20_000 });
    const before = readFileSync(fileOf(cache, ".pixels"));
    const owner = { pid: process.pid, host: hostname() };
    writeFileSync(fileOf(cache, ".pixels").replace(/pixels$/, "lock"), JSON.stringify(owner));
    expect(run(whole, cache)).toBe(expected);
    expect(readFileSync(fileOf(cache, ".pixels")).equals(before)).toBe(true);
  });

  it("starts anew where its files do not fit together", () => {
    const cache = newFolder();
    run(whole, cache);
    rmSync(fileOf(cache, ".pixels"));
    expect(run(whole, cache)).toBe(expected);
    for (const garbage of [new Uint8Array(10), new Uint8Array(statSync(fileOf(cache, ".index")).size).fill(7)]) {
      writeFileSync(fileOf(cache, ".index"), garbage);
      expect(run(whole, cache)).toBe(expected);
    }
  });

  it("is refused where it cannot be", async () => {
    const inMemory = new ArrayDataset({ name: "random", width: 2, height: 2, channels: 1, pixels: sharedBytes(4) });
    expect(() => cachedInFile(inMemory, newFolder(), BYTES)).toThrow(/^random has no image files whose pixels could be kept in/);
    const taken = join(root, "taken");
    writeFileSync(taken, "");
    const dataset = await openDataset(`folder:${whole}`);
    expect(() => cachedInFile(dataset, taken, BYTES)).toThrow(/taken cannot hold decoded images: EEXIST/);
  });
});
