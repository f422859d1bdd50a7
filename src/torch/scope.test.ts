// Who frees a tensor: scopes, dispose, and garbage collection as the safety net.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { ScopeError, UseAfterDisposeError } from "./errors.js";
import { fromTypedArray, isTensor, keep, memoryStats, ops, type Tensor, tensor, tidy, zeros } from "./index.js";

/** Handles alive more than before `fn`. */
function growth(fn: () => void): number {
  const before = memoryStats().handles;
  fn();
  return memoryStats().handles - before;
}

function collectGarbage(): void {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
}

test("everything made inside is freed, the result moves out", () => {
  let inner: Tensor | undefined;
  const out = tidy(() => {
    inner = tensor([1]);
    return inner.add(1).mul(3);
  });
  expect(inner!.isDisposed).toBe(true);
  expect(out.tolist()).toEqual([6]);
  expect(growth(() => out.dispose())).toBe(-1);
});

test("results in arrays, maps, objects and class instances, at any depth and in circles", () => {
  class Pair {
    left = tensor([1]);
    right = [new Map([["deep", tensor([2])]])];
    self: Pair = this;
    nothing = null;
  }
  let pair: Pair | undefined;
  const grown = growth(() => {
    pair = tidy(() => {
      zeros([10]);
      return new Pair();
    });
  });
  expect(grown).toBe(2);
  expect([pair!.left.item(), pair!.right[0]!.get("deep")!.item()]).toEqual([1, 2]);
  pair!.left.dispose();
  pair!.right[0]!.get("deep")!.dispose();
});

test("scopes nest: a result lives in the scope around", () => {
  const grown = growth(() => {
    let escaped: Tensor | undefined;
    tidy(() => {
      escaped = tidy(() => tensor([1]).add(1));
      expect(escaped.item()).toBe(2);
    });
    expect(escaped!.isDisposed).toBe(true);
  });
  expect(grown).toBe(0);
});

test("a throw inside frees everything", () => {
  const scopes = memoryStats().scopes;
  const grown = growth(() => {
    const run = () =>
      tidy(() => {
        zeros([4]);
        tidy(() => {
          zeros([4]);
          throw new Error("on purpose");
        });
      });
    expect(run).toThrow("on purpose");
  });
  expect(grown).toBe(0);
  expect(memoryStats().scopes).toBe(scopes);
});

test("keep takes a tensor out of every scope", () => {
  let kept: Tensor | undefined;
  tidy(() =>
    tidy(() => {
      kept = keep(tensor([5]));
      expect(keep(kept)).toBe(kept);
    }),
  );
  expect(kept!.item()).toBe(5);
  kept!.dispose();
});

test("dispose twice is allowed, use afterwards is a named error", () => {
  const x = tensor([1]);
  x.dispose();
  x.dispose();
  expect(x.isDisposed).toBe(true);
  expect(isTensor(x)).toBe(true);
  expect(String(x)).toBe("Tensor(disposed)");
  for (const use of [
    () => x.add(1),
    () => x.shape,
    () => tensor([1]).add(x),
    () => x.backward(),
    () => keep(x),
    () => x.alias(),
    () => x.data(),
  ]) {
    expect(use).toThrow(UseAfterDisposeError);
    expect(use).toThrow(/this Tensor was disposed, by dispose\(\) or at the end of its scope/);
  }
});

test("a tensor disposed inside a scope is no trouble at its end", () => {
  const grown = growth(() =>
    tidy(() => {
      const [a, b, c] = [tensor([1]), tensor([2]), tensor([3])] as const;
      b.dispose();
      a.dispose();
      expect(c.item()).toBe(3);
    }),
  );
  expect(grown).toBe(0);
});

test("using", () => {
  let seen: Tensor;
  {
    using x = tensor([1]);
    seen = x;
    expect(x.item()).toBe(1);
  }
  expect(seen.isDisposed).toBe(true);
});

test("a promise inside tidy is an error and leaks nothing", async () => {
  const scopes = memoryStats().scopes;
  const grown = growth(() => {
    expect(() =>
      tidy(async () => {
        const x = zeros([100]);
        await null;
        return x.add(1);
      }),
    ).toThrow(ScopeError);
  });
  expect(grown).toBe(0);
  expect(memoryStats().scopes).toBe(scopes);
  await new Promise((settle) => setImmediate(settle));
  expect(() => tidy(() => Promise.resolve(zeros([1])))).toThrow(/await before or after the scope/);
});

test("an alias is a handle of its own on the same memory", () => {
  const x = tensor([1]);
  const y = x.alias();
  y.add_(1);
  x.dispose();
  expect(y.item()).toBe(2);
  y.dispose();
});

test("memoryStats counts handles, storages and bytes", () => {
  tidy(() => {
    const before = memoryStats();
    const x = zeros([1000]);
    const view = x.view([10, 100]);
    const after = memoryStats();
    expect(after.handles - before.handles).toBe(2);
    expect(after.storages - before.storages).toBe(1);
    expect(after.bytes - before.bytes).toBe(4000);
    expect(after.created - before.created).toBe(2);
    expect(after.scopes).toBe(1);
    expect(view.numel).toBe(1000);
  });
});

test("V8 is told the bytes that no scope owns, views counted once", () => {
  const before = memoryStats().reportedBytes;
  const x = zeros([1 << 20]);
  const view = x.view([1 << 10, 1 << 10]);
  expect(memoryStats().reportedBytes - before).toBe(4 << 20);
  x.dispose();
  expect(memoryStats().reportedBytes - before).toBe(4 << 20);
  view.dispose();
  expect(memoryStats().reportedBytes).toBe(before);
  tidy(() => {
    const inside = zeros([1 << 20]);
    expect(memoryStats().reportedBytes).toBe(before);
    keep(inside);
    expect(memoryStats().reportedBytes - before).toBe(4 << 20);
    inside.dispose();
  });
  const out = tidy(() => zeros([1 << 20]));
  expect(memoryStats().reportedBytes - before).toBe(4 << 20);
  out.dispose();
});

test("garbage collection frees what nobody holds, in one synchronous stretch", () => {
  collectGarbage();
  const before = memoryStats();
  let most = 0;
  for (let i = 1; i <= 1000; ++i) {
    zeros([1 << 16]); // 256 KiB that no scope owns
    if (i % 50 === 0) most = Math.max(most, memoryStats().handles - before.handles);
  }
  expect(most).toBeLessThan(700);
  collectGarbage();
  expect(memoryStats().handles - before.handles).toBeLessThan(10);
  expect(memoryStats().reportedBytes - before.reportedBytes).toBeLessThan(10 << 18);
});

test("objects that are not ours", () => {
  class Fake {}
  Object.setPrototypeOf(Fake.prototype, Object.getPrototypeOf(tensor([1])));
  const add = ops.aten!.add!.Tensor!;
  for (const wrong of [new Fake(), Object.create(zeros([1])), new Proxy(zeros([1]), {}), structuredClone({}), globalThis]) {
    expect(isTensor(wrong)).toBe(false);
    expect(() => add(wrong as never, tensor([1]))).toThrow();
  }
  expect(() => (fromTypedArray.call as unknown as () => void)()).toThrow();
});
