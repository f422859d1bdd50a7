import { expect, test } from "vitest";
import { profile, profileRegion, randn, tidy } from "./index.js";

test("operators are told of by region, those of backward by the region that made their node", () => {
  const { result, operators } = profile(
    () =>
      tidy(() => {
        const x = randn([3, 4]).requiresGrad_();
        const y = profileRegion(1, () => x.matmul(randn([4, 5])));
        const z = profileRegion(2, () => y.exp());
        z.sum().backward();
        return x.grad!.shape;
      }),
    { shapesOf: ["aten::mm"] },
  );
  expect(result).toEqual([3, 4]);
  const calls = (name: string) =>
    operators
      .filter((each) => each.name === name)
      .map(({ region, backward, calls, shapes }) => ({ region, backward, calls, shapes }));
  expect(calls("aten::mm").sort((a, b) => Number(a.backward) - Number(b.backward))).toEqual([
    {
      region: 1,
      backward: false,
      calls: 1,
      shapes: [
        [3, 4],
        [4, 5],
      ],
    },
    {
      region: 1,
      backward: true,
      calls: 1,
      shapes: [
        [3, 5],
        [5, 4],
      ],
    },
  ]);
  expect(calls("aten::exp")).toEqual([{ region: 2, backward: false, calls: 1, shapes: null }]);
  expect(calls("ExpBackward0")).toEqual([{ region: 2, backward: true, calls: 1, shapes: null }]);
  for (const { wall, cpu } of operators) expect(Math.min(wall, cpu)).toBeGreaterThanOrEqual(0);
});

test("a profile ends with what it was taken of, and another can be taken", () => {
  const broken = () =>
    profile(() => {
      throw new RangeError("no");
    });
  expect(broken).toThrow(new RangeError("no"));
  expect(() => profile(() => profile(() => 1))).toThrow(/being recorded/);
  expect(profile(() => 1)).toEqual({ result: 1, operators: [] });
});
