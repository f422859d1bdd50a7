// Generators: seeds, states, and draws that can be made again.
import { expect, test } from "vitest";
import {
  dropout,
  Generator,
  getRngState,
  manualSeed,
  ones,
  rand,
  randn,
  randperm,
  setRngState,
  tensor,
  tidy,
  zeros,
} from "./index.js";

const inScope = (name: string, fn: () => void) => test(name, () => tidy(fn));

inScope("the same seed draws the same", () => {
  const draw = (seed: number | bigint) => {
    const generator = new Generator(seed);
    return [randn([5], { generator }), rand([3], { generator }), randperm(6, { generator })].map((each) => each.tolist());
  };
  expect(draw(1)).toEqual(draw(1));
  expect(draw(1n)).toEqual(draw(1));
  expect(draw(1)).not.toEqual(draw(2));
  expect(draw(2n ** 62n)).toEqual(draw(2n ** 62n));
});

inScope("generators are apart from each other and from the default one", () => {
  manualSeed(5);
  const a = new Generator(1);
  const first = rand([2], { generator: a });
  rand([100]);
  rand([100], { generator: new Generator(9) });
  const second = rand([2], { generator: a });
  const b = new Generator(1);
  expect([first, second].map((each) => each.tolist())).toEqual(
    [rand([2], { generator: b }), rand([2], { generator: b })].map((each) => each.tolist()),
  );
});

inScope("a state can be saved and set, also through bytes", () => {
  const generator = new Generator(11);
  randn([7], { generator });
  const state = generator.getState();
  expect(state.dtype).toBe("uint8");
  const first = randn([9], { generator }).tolist();
  const copy = tensor(state.toArray(), { dtype: "uint8" });
  const other = new Generator();
  other.setState(copy);
  expect(randn([9], { generator: other }).tolist()).toEqual(first);
  generator.setState(state);
  expect(randn([9], { generator }).tolist()).toEqual(first);
});

inScope("the default generator", () => {
  manualSeed(3);
  const state = getRngState();
  const first = [rand([4]), dropout(ones([20]), 0.5, true), zeros([3]).normal_()].map((each) => each.tolist());
  setRngState(state);
  expect([rand([4]), dropout(ones([20]), 0.5, true), zeros([3]).normal_()].map((each) => each.tolist())).toEqual(first);
  manualSeed(3);
  expect(rand([4]).tolist()).toEqual(first[0]);
});

inScope("what is not a state, a seed or a device", () => {
  const generator = new Generator(1);
  expect(() => generator.setState(zeros([4]))).toThrow(/contiguous uint8 vector, got float32\[4\]/);
  expect(() => generator.setState(zeros([4], { dtype: "uint8" }))).toThrow();
  expect(() => generator.setState(zeros([generator.getState().numel], { dtype: "uint8" }))).toThrow();
  expect(() => new Generator(1.5)).toThrow(/seed must be an integer, got 1.5/);
  expect(() => new Generator(1, "abacus" as never)).toThrow(/unknown device "abacus"/);
  expect(() => Generator.prototype.getState.call({} as Generator)).toThrow(/expected a Generator/);
  expect(rand([1], { generator }).shape).toEqual([1]);
});
