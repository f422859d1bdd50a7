// safetensors: the same bytes as the reference implementation, and one clear error for whatever a file may hold instead.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { afterAll, expect, test } from "vitest";
import { SafetensorsError } from "./errors.js";
import {
  allocatorStats,
  type DType,
  fromTypedArray,
  memoryStats,
  ops,
  randn,
  readSafetensors,
  readSafetensorsHeader,
  type Tensor,
  tensor,
  tidy,
  writeSafetensors,
  zeros,
} from "./index.js";

const folder = mkdtempSync(join(tmpdir(), "safetensors-"));
afterAll(() => rmSync(folder, { recursive: true }));
const path = join(folder, "file.safetensors");
const reference = fileURLToPath(new URL("../../tests/reference", import.meta.url));
const golden = readFileSync(join(reference, "goldens", "all_dtypes.safetensors"));

/** A file with this header (an object, or text as it is) and this many bytes of data. */
function fileOf(header: unknown, data: number | Uint8Array = 0): Uint8Array {
  const json = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, typeof data === "number" ? Buffer.alloc(data) : data]);
}

/** The message of the SafetensorsError that reading these bytes gives. */
function refused(bytes: Uint8Array): string {
  writeFileSync(path, bytes);
  const before = memoryStats().handles;
  for (const read of [readSafetensorsHeader, readSafetensors]) {
    try {
      tidy(() => void read(path));
    } catch (error) {
      expect(error).toBeInstanceOf(SafetensorsError);
      expect((error as Error).message.startsWith(`${path} is not a sound safetensors file: `)).toBe(true);
      expect(memoryStats().handles).toBe(before);
      if (read === readSafetensors)
        return (error as Error).message.slice(path.length + " is not a sound safetensors file: ".length);
    }
  }
  throw new Error("the file was taken");
}

const entry = (dtype: unknown, shape: unknown, ...offsets: unknown[]) => ({ dtype, shape, data_offsets: offsets });

test("the golden file of the reference implementation: read, and written again byte for byte", () => {
  tidy(() => {
    writeFileSync(path, golden);
    const { tensors, metadata } = readSafetensors(path);
    expect(metadata).toEqual({ format: "pt" });
    expect([...tensors].map(([name, each]) => [name, each.dtype, each.shape])).toEqual([
      ["blocks.0.int64", "int64", [2, 3]],
      ["blocks.0.float64", "float64", [2, 3]],
      ["blocks.0.float32", "float32", [2, 3]],
      ["empty", "float32", [2, 0]],
      ["scalar", "float32", []],
      ["blocks.0.int32", "int32", [2, 3]],
      ["blocks.0.bfloat16", "bfloat16", [2, 3]],
      ["blocks.0.float16", "float16", [2, 3]],
      ["blocks.0.int16", "int16", [2, 3]],
      ["blocks.0.int8", "int8", [2, 3]],
      ["blocks.0.uint8", "uint8", [2, 3]],
      ['näme "quoted"\n\\', "uint8", [1]],
      ["odd", "uint8", [3]],
      ["blocks.0.bool", "bool", [2, 3]],
    ]);
    expect(tensors.get("blocks.0.float32")!.toArray()).toEqual([1.5, -2, 3, 0, -0.5, 6.25]);
    expect(tensors.get("blocks.0.bfloat16")!.bits()).toEqual(Uint16Array.of(0x3f80, 0xc000, 0x7f7f, 0, 1, 2));
    expect(tensors.get("blocks.0.int64")!.bits()).toEqual(BigInt64Array.of(-(2n ** 63n), 2n ** 63n - 1n, 0n, 1n, 2n, 3n));
    const shuffled = new Map([...tensors].reverse());
    writeSafetensors(path, shuffled, metadata);
    expect(readFileSync(path).equals(golden)).toBe(true);
  });
});

test("the reference implementation makes the golden file again, where there is one", () => {
  const python = process.env.PYTHON || "python3";
  if (spawnSync(python, ["-c", "import torch, safetensors.torch"]).status !== 0) return;
  const again = join(folder, "again.safetensors");
  const done = spawnSync(python, [join(reference, "safetensors_golden.py"), again], { encoding: "utf8" });
  expect(done.stderr.split("\n").filter((line) => /error/i.test(line))).toEqual([]);
  expect(readFileSync(again).equals(golden)).toBe(true);
});

test("the header alone, with where the data lies", () => {
  writeFileSync(path, golden);
  const { tensors, metadata } = readSafetensorsHeader(path);
  expect(metadata).toEqual({ format: "pt" });
  const { start, bytes } = tensors.get("scalar")!;
  expect([golden.readFloatLE(start), bytes]).toEqual([7, 4]);
  for (const each of tensors.values()) expect(each.start % 8 === 0 || each.bytes < 48).toBe(true);
});

test("nothing, one tensor, views, and a record instead of a map", () => {
  tidy(() => {
    writeSafetensors(path, {});
    expect(readSafetensors(path)).toEqual({ tensors: new Map(), metadata: {} });
    const x = randn([4, 6]);
    writeSafetensors(path, { "x.t": x.t(), part: x.slice(1, 1, 3), leaf: x.clone().requiresGrad_() }, { note: "é" });
    const { tensors, metadata } = readSafetensors(path);
    expect(metadata).toEqual({ note: "é" });
    expect(tensors.get("x.t")!.equal(x.t())).toBe(true);
    expect(tensors.get("part")!.equal(x.slice(1, 1, 3))).toBe(true);
    expect(tensors.get("leaf")!.requiresGrad).toBe(false);
  });
});

test("the tensors live in the caller's scope", () => {
  const before = memoryStats().handles;
  writeFileSync(path, golden);
  const { tensors } = tidy(() => {
    const file = readSafetensors(path);
    expect(memoryStats().handles - before).toBe(14);
    return { tensors: new Map([["kept", file.tensors.get("scalar")!]]) };
  });
  expect(memoryStats().handles - before).toBe(1);
  expect(tensors.get("kept")!.item()).toBe(7);
  tensors.get("kept")!.dispose();
});

test("reading is writing backwards, for any tensors", () => {
  const dtypes: DType[] = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"];
  const one = fc.record({
    dtype: fc.constantFrom(...dtypes),
    shape: fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 }),
    seed: fc.integer({ min: 0, max: 100 }),
  });
  const name = fc
    .string({ unit: "grapheme", maxLength: 12 })
    .filter((each) => each !== "__metadata__" && Buffer.from(each).toString() === each);
  const text = fc.dictionary(
    fc.string().filter((each) => each !== "__proto__"),
    fc.string(),
    { maxKeys: 3 },
  );
  const property = fc.property(
    fc.uniqueArray(fc.tuple(name, one), { selector: ([key]) => key, maxLength: 6 }),
    text,
    (all, metadata) => {
      tidy(() => {
        const given = new Map(
          all.map(([key, { dtype, shape, seed }]) => {
            const count = shape.reduce((a, b) => a * b, 1);
            const whole = Int32Array.from({ length: count }, (_, i) => (i * 7 + seed) % 100);
            return [key, fromTypedArray(whole, shape).to(dtype)] as [string, Tensor];
          }),
        );
        writeSafetensors(path, given, metadata);
        const back = readSafetensors(path);
        expect({ ...back.metadata }).toEqual({ ...metadata });
        expect(new Set(back.tensors.keys())).toEqual(new Set(given.keys()));
        for (const [key, each] of given) {
          const read = back.tensors.get(key)!;
          expect([read.dtype, read.shape, read.bits()]).toEqual([each.dtype, each.shape, each.bits()]);
        }
      });
    },
  );
  fc.assert(property, { numRuns: 60, seed: 1 });
});

test("what no sound file holds", () => {
  const sound = { a: entry("F32", [1], 0, 4) };
  expect(refused(Buffer.alloc(0))).toBe("it has 0 bytes, the length of the header alone takes 8");
  expect(refused(Buffer.alloc(7))).toMatch(/it has 7 bytes/);
  expect(refused(Buffer.alloc(8))).toBe("the header does not begin with {");
  expect(refused(Buffer.alloc(8, 0xff))).toBe("its header claims 18446744073709551615 bytes; the format allows 100000000");
  expect(refused(fileOf(sound, 4).subarray(0, 20))).toMatch(/^its header claims \d+ bytes, the file has 20 in all$/);
  expect(refused(fileOf(sound, 3))).toBe("the header speaks of 4 bytes of data, the file has 3");
  expect(refused(fileOf(sound, 5))).toBe("the header speaks of 4 bytes of data, the file has 5");
  expect(refused(fileOf("[]"))).toMatch(/does not begin with \{/);
  expect(refused(fileOf(" {}"))).toMatch(/does not begin with \{/);
  expect(refused(fileOf("\ufeff{}"))).toMatch(/does not begin with \{/);
  expect(refused(fileOf("{"))).toMatch(/^the header is not JSON/);
  expect(refused(fileOf('{"a'))).toMatch(/^the header is not JSON/);
  expect(refused(fileOf('{"a\\'))).toMatch(/^the header is not JSON/);
  expect(refused(fileOf("{}}"))).toMatch(/^the header is not JSON/);
  expect(refused(Buffer.concat([fileOf("{   ").subarray(0, 9), Buffer.of(0xc3, 0x28, 0x7d)]))).toBe(
    "the header is not UTF-8 text",
  );
  expect(refused(fileOf(`{"a":${"[".repeat(100_000)}`))).toBe("the header nests deeper than the format does");
  expect(refused(fileOf('{"__metadata__":{"k":"1","k":"2"}}'))).toBe('the header has the key "k" twice');
  expect(refused(fileOf('{"__metadata__":{},"__metadata__":{}}'))).toMatch(/"__metadata__" twice/);
  expect(refused(fileOf('{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"\\u0061":{}}'))).toBe(
    'the header has the key "a" twice',
  );
  expect(refused(fileOf({ __metadata__: 5 }))).toBe("__metadata__ is a number, expected an object of strings");
  expect(refused(fileOf({ __metadata__: { a: 1 } }))).toBe('__metadata__ has a number at "a", expected a string');
  expect(refused(fileOf({ a: 1 }))).toBe('tensor "a": its entry is a number, expected an object');
  expect(refused(fileOf({ a: null }))).toMatch(/its entry is null/);
  expect(refused(fileOf({ a: [] }))).toMatch(/its entry is a list/);
  expect(refused(fileOf({ a: {} }))).toMatch(/its dtype is missing, expected one of I64, F64,/);
  expect(refused(fileOf({ a: entry("F8_E4M3", [1], 0, 1) }, 1))).toMatch(/its dtype is "F8_E4M3"/);
  expect(refused(fileOf({ a: entry("toString", [1], 0, 1) }, 1))).toMatch(/its dtype is "toString"/);
  for (const shape of [undefined, "1", [-1], [1.5], ["1"], [null], [2 ** 53], [1e300]]) {
    expect(refused(fileOf({ a: entry("U8", shape, 0, 1) }, 1))).toMatch(/its shape is not a list of whole numbers of 0 or more/);
  }
  expect(refused(fileOf({ a: entry("U8", Array(65).fill(1), 0, 1) }, 1))).toMatch(/it has 65 dimensions/);
  for (const shape of [[2 ** 30, 2 ** 30], [2 ** 52, 2], [0, 2 ** 30, 2 ** 30], Array(64).fill(2 ** 20)]) {
    expect(refused(fileOf({ a: entry("F32", shape, 0, 0) }))).toMatch(/its shape \[.*\] is too large/);
  }
  for (const offsets of [[], [0], [0, 1, 2], [-1, 0], [0, 1.5], ["0", "1"], [null, null], [0, 2 ** 60]]) {
    expect(refused(fileOf({ a: entry("U8", [1], ...offsets) }, 1))).toMatch(
      /its data_offsets are not two whole numbers of 0 or more/,
    );
  }
  expect(refused(fileOf({ a: entry("U8", [1], 1, 0) }, 1))).toBe('tensor "a": its data ends at byte 0, before it begins at 1');
  expect(refused(fileOf({ a: entry("F32", [2], 0, 4) }, 4))).toBe(
    'tensor "a": its shape [2] of F32 needs 8 bytes, its data_offsets give it 4',
  );
  const two = (begin: number) => ({ a: entry("U8", [2], 0, 2), b: entry("U8", [2], begin, begin + 2) });
  expect(refused(fileOf(two(1), 3))).toBe('tensor "b" overlaps the one before: it begins at byte 1 of the data, expected 2');
  expect(refused(fileOf(two(3), 5))).toBe('tensor "b" leaves a hole before it: it begins at byte 3 of the data, expected 2');
  expect(refused(fileOf({ a: entry("U8", [1], 1, 2) }, 2))).toMatch(/"a" leaves a hole before it/);
});

test("names that mean something to JavaScript are names", () => {
  tidy(() => {
    const text =
      '{"__proto__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"constructor":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}';
    writeFileSync(path, fileOf(text, Uint8Array.of(5, 6)));
    expect([...readSafetensors(path).tensors].map(([name, each]) => [name, each.item()])).toEqual([
      ["__proto__", 5],
      ["constructor", 6],
    ]);
  });
});

test("a bool that is neither 0 nor 1 is true", () => {
  tidy(() => {
    writeFileSync(path, fileOf({ a: entry("BOOL", [4], 0, 4) }, Uint8Array.of(0, 1, 2, 255)));
    const { tensors } = readSafetensors(path);
    expect(Array.from(tensors.get("a")!.bits() as Uint8Array)).toEqual([0, 1, 1, 1]);
    expect(tensors.get("a")!.sum().item()).toBe(3);
  });
});

test("files changed at random are taken or refused, and nothing is allocated by their word", () => {
  const change = fc.record({ at: fc.double({ min: 0, max: 1, noNaN: true }), byte: fc.integer({ min: 0, max: 255 }) });
  const property = fc.property(
    fc.array(change, { minLength: 1, maxLength: 4 }),
    fc.option(fc.double({ min: 0, max: 1, noNaN: true })),
    (changes, cut) => {
      const bytes = Buffer.from(golden);
      // Most of the file's meaning is in its first kilobyte.
      for (const { at, byte } of changes) bytes[Math.floor(at * at * (bytes.length - 1))] = byte;
      writeFileSync(path, cut === null ? bytes : bytes.subarray(0, Math.floor(cut * bytes.length)));
      const peak = allocatorStats().bytesInUse;
      tidy(() => {
        try {
          readSafetensors(path);
        } catch (error) {
          expect(error).toBeInstanceOf(SafetensorsError);
          expect((error as Error).message).toMatch(/^[^\n]{20,400}$/);
        }
      });
      expect(allocatorStats().bytesInUse).toBe(peak);
    },
  );
  fc.assert(property, { numRuns: 1000, seed: 7 });
});

test("what is not a file", () => {
  expect(() => readSafetensors(join(folder, "none"))).toThrow(/none cannot be read: ENOENT/);
  expect(() => readSafetensors(folder)).toThrow(/cannot be read: it is not a regular file/);
  const pipe = join(folder, "pipe");
  spawnSync("mkfifo", [pipe]);
  expect(() => readSafetensors(pipe)).toThrow(SafetensorsError);
});

test("what cannot be written leaves the file of before, and nothing beside it", () => {
  tidy(() => {
    const inside = join(folder, "inside");
    mkdirSync(inside);
    const file = join(inside, "a.safetensors");
    writeSafetensors(file, { a: tensor([1]) });
    const before = readFileSync(file);
    expect(() => writeSafetensors(file, { z: ops.aten!.complex!(zeros([1]), zeros([1])) })).toThrow(/no dtype complex64/);
    expect(() => writeSafetensors(file, { __metadata__: zeros([1]) })).toThrow(/cannot be named __metadata__/);
    expect(() => writeSafetensors(file, { a: 1 as never })).toThrow(/"a" is not a Tensor/);
    expect(() => writeSafetensors(file, {}, { a: 1 as never })).toThrow(/has a number at "a"/);
    const gone = zeros([1]);
    gone.dispose();
    expect(() => writeSafetensors(file, { gone })).toThrow(/was disposed/);
    expect(() => writeSafetensors(join(file, "a"), {})).toThrow(/cannot be written: ENOTDIR|cannot be written: EEXIST/);
    expect(() => writeSafetensors(inside, {})).toThrow(/cannot be written/);
    expect(readFileSync(file).equals(before)).toBe(true);
    expect(readdirSync(inside)).toEqual(["a.safetensors"]);
    expect(readdirSync(folder).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });
});

test("a sparse file that says it holds a terabyte is an error, not an allocation", () => {
  const size = 2 ** 40;
  writeFileSync(path, fileOf({ a: entry("U8", [size], 0, size) }));
  const header = readFileSync(path).length;
  truncateSync(path, header + size);
  expect(readSafetensorsHeader(path).tensors.get("a")!.bytes).toBe(size);
  expect(() => readSafetensors(path)).toThrow(SafetensorsError);
  truncateSync(path, 0);
});
