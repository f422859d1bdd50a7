// The caching CPU allocator: what it keeps, gives back and refuses.
import { afterEach, beforeAll, expect, test } from "vitest";
import { OutOfMemoryError } from "./errors.js";
import { allocatorStats, configureAllocator, emptyCache, resetPeakMemory, tensor, tidy, zeros } from "./index.js";

const { memoryLimit, cacheLimit } = allocatorStats();
beforeAll(emptyCache);
afterEach(() => {
  configureAllocator({ caching: true, memoryLimit, cacheLimit });
  emptyCache();
});

test("a freed block waits for the next request of its size", () => {
  zeros([1 << 20]).dispose();
  const before = allocatorStats();
  expect(before.bytesCached).toBeGreaterThanOrEqual(4 << 20);
  tidy(() => {
    zeros([1 << 20]);
    const during = allocatorStats();
    expect(during.hits - before.hits).toBe(1);
    expect(during.requests - before.requests).toBe(1);
    expect(during.bytesInUse - before.bytesInUse).toBe(4 << 20);
    expect(during.bytesCached - before.bytesCached).toBe(-(4 << 20));
  });
  expect(allocatorStats()).toMatchObject({ bytesInUse: before.bytesInUse, bytesCached: before.bytesCached });
});

test("emptyCache gives everything back", () => {
  zeros([1 << 20]).dispose();
  emptyCache();
  expect(allocatorStats().bytesCached).toBe(0);
});

test("the peak", () => {
  resetPeakMemory();
  const start = allocatorStats().peakBytes;
  tidy(() => {
    zeros([1 << 20]);
    zeros([1 << 20]);
  });
  expect(allocatorStats().peakBytes - start).toBe(8 << 20);
  resetPeakMemory();
  expect(allocatorStats().peakBytes).toBe(start);
});

test("what waits is bounded", () => {
  configureAllocator({ cacheLimit: 6 << 20 });
  tidy(() => {
    for (let i = 0; i < 4; ++i) zeros([1 << 20]);
  });
  expect(allocatorStats().bytesCached).toBeLessThanOrEqual(6 << 20);
});

test("a limit gives OutOfMemoryError, and the process lives", () => {
  tidy(() => {
    configureAllocator({ memoryLimit: allocatorStats().bytesInUse + (10 << 20) });
    const kept = zeros([1 << 20]);
    const before = allocatorStats();
    expect(() => zeros([1 << 21])).toThrow(OutOfMemoryError);
    expect(() => zeros([1 << 21])).toThrow(
      /^zeros\(.*\): not enough memory: 8388608 bytes were asked for, \d+ of \d+ are in use$/,
    );
    expect(allocatorStats().bytesInUse).toBe(before.bytesInUse);
    expect(kept.add(1).sum().item()).toBe(1 << 20);
  });
});

test("a limit hit inside backward comes out as OutOfMemoryError too, and the next backward works", () => {
  tidy(() => {
    const x = zeros([1 << 20], { requiresGrad: true });
    const y = x.exp().mul(x.exp()).sum();
    configureAllocator({ memoryLimit: allocatorStats().bytesInUse + (1 << 20) });
    expect(() => y.backward()).toThrow(OutOfMemoryError);
    configureAllocator({ memoryLimit });
    x.exp().sum().backward();
    expect(x.grad!.sum().item()).toBe(1 << 20);
  });
});

test("off: everything goes to the system's malloc", () => {
  configureAllocator({ caching: false });
  const before = allocatorStats();
  expect([before.caching, before.bytesCached]).toEqual([false, 0]);
  zeros([1 << 20]).dispose();
  expect(allocatorStats()).toMatchObject({ bytesCached: 0, hits: before.hits });
  expect(tensor([1, 2]).sum().item()).toBe(3);
});

test("blocks of all sizes keep their numbers", () => {
  tidy(() => {
    const sizes = [0, 1, 3, 4095, 4096, 4097, 9001, 65_537, 300_000, 1_000_003];
    for (let round = 0; round < 3; ++round) {
      const all = sizes.map((size, i) => zeros([size]).fill_(i + 1));
      expect(all.map((each) => each.sum([0]).item())).toEqual(sizes.map((size, i) => size * (i + 1)));
      for (const each of all) each.dispose();
    }
  });
});

test("a block asked for while caching is off may be freed and used again while it is on", () => {
  tidy(() => {
    const sizes = [5001, 5119, 70_001, 71_500];
    configureAllocator({ caching: false });
    const before = sizes.map((size) => zeros([size]));
    configureAllocator({ caching: true });
    for (const each of before) each.dispose();
    const { hits } = allocatorStats();
    const after = sizes.map((size) => zeros([size + 30]).fill_(3));
    expect(allocatorStats().hits).toBeGreaterThan(hits);
    expect(after.map((each) => each.sum().item())).toEqual(sizes.map((size) => 3 * (size + 30)));
  });
});

test("limits that are none", () => {
  expect(() => configureAllocator({ memoryLimit: -1 })).toThrow(/must not be negative/);
  expect(() => configureAllocator({ cacheLimit: 1.5 })).toThrow(/must be an integer/);
});
