// The operator that keeps the highest numbers of each row, against a sort of all of them.
import fc from "fast-check";
import { expect, test } from "vitest";
import { full, fusesHighest, keepHighest, op, randn, tensor, tidy, zeros } from "./index.js";

type Found = [value: number, place: number];

function found(keys: bigint): Found {
  const high = Number(BigInt.asIntN(32, keys >> 32n));
  const bits = Int32Array.of(high ^ ((high >> 31) & 0x7fffffff));
  return [new Float32Array(bits.buffer)[0]!, 0xffffffff - Number(BigInt.asUintN(32, keys))];
}

/** What is kept of rows that come in these pieces, in order; places begin at `start`. */
function highest(rows: number[][], k: number, pieces: number[], start = 0): Found[][] {
  return tidy(() => {
    const keys = full([rows.length, k], -(2 ** 63), { dtype: "int64" });
    const values = tensor(rows);
    let from = 0;
    for (const piece of pieces) {
      keepHighest(keys, values.narrow(1, from, piece), start + from);
      from += piece;
    }
    const flat = [...(keys.sort({ descending: true }).values.view([-1]).data() as BigInt64Array)];
    return rows.map((_, row) => flat.slice(row * k, (row + 1) * k).map(found));
  });
}

function sorted(rows: number[][], k: number): Found[][] {
  return rows.map((row) =>
    row
      .map((value, place): Found => [value + 0, place])
      .sort((a, b) => b[0] - a[0] || a[1] - b[1])
      .slice(0, k),
  );
}

const number = fc.oneof(
  fc.float({ noNaN: true }),
  fc.constantFrom(0, -0, 1, -1, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Math.fround(1e-42), Math.fround(-1e-42)),
);

test("the highest are kept, of equal ones the first, whatever the pieces", () => {
  const property = fc.property(
    fc.integer({ min: 1, max: 3 }),
    fc.array(fc.integer({ min: 1, max: 600 }), { minLength: 1, maxLength: 4 }),
    fc.integer({ min: 1, max: 700 }),
    fc.infiniteStream(number),
    (count, pieces, wanted, numbers) => {
      const width = pieces.reduce((a, b) => a + b);
      const rows = Array.from({ length: count }, () => Array.from({ length: width }, () => numbers.next().value!));
      const k = Math.min(wanted, width);
      expect(highest(rows, k, pieces)).toEqual(sorted(rows, k));
    },
  );
  fc.assert(property, { numRuns: 100 });
});

test("rising rows, of which every number is the highest so far", () => {
  const row = Array.from({ length: 5000 }, (_, i) => i);
  expect(highest([row], 3, [2000, 3000])).toEqual([
    [
      [4999, 4999],
      [4998, 4998],
      [4997, 4997],
    ],
  ]);
});

test("what is not a number is left out, and places go on to 2^32", () => {
  expect(highest([[Number.NaN, 2, Number.NaN, 3]], 2, [4])).toEqual([
    [
      [3, 3],
      [2, 1],
    ],
  ]);
  const start = 2 ** 32 - 3;
  expect(highest([[5, 7]], 2, [2], start)).toEqual([
    [
      [7, start + 1],
      [5, start],
    ],
  ]);
});

test("rows that lie apart", () => {
  tidy(() => {
    const values = randn([7, 50]);
    const keys = () => full([7, 4], -(2 ** 63), { dtype: "int64" });
    const [apart, together] = [keys(), keys()];
    keepHighest(apart, values.narrow(1, 10, 30), 0);
    keepHighest(together, values.narrow(1, 10, 30).contiguous(), 0);
    expect(apart.equal(together)).toBe(true);
  });
});

test("arguments that do not fit are told", () => {
  tidy(() => {
    const keep = op<void>("tessera::keep_highest");
    const keys = zeros([2, 3], { dtype: "int64" });
    expect(() => keep(zeros([2, 3]), randn([2, 4]), 0)).toThrow(/expects keys as a contiguous int64 tensor \[rows, k\]/);
    expect(() => keep(keys.t(), randn([3, 4]), 0)).toThrow(/expects keys as a contiguous/);
    expect(() => keep(keys, randn([3, 4]), 0)).toThrow(/expects values as a float32 tensor \[2, columns\]/);
    expect(() => keep(keys, randn([4, 2]).t(), 0)).toThrow(/whose rows are contiguous/);
    expect(() => keep(keys, randn([2, 4]), 2 ** 32 - 4)).toThrow(/expects places from 0 to below 2\^32/);
    expect(fusesHighest("cuda:0")).toBe(false);
  });
});
