// The operators that this library names, against the libtorch that is there: what a version dropped or renamed is told by its name.
import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { hasOp, op, ops, versionInfo } from "./index.js";

/** In a process of its own, because tests name others. */
const declared: [string, { optional: boolean }][] = JSON.parse(
  execFileSync(
    process.execPath,
    [
      "--input-type=module",
      "--eval",
      'import { declaredOperators } from "./dist/torch/index.js"; import "./dist/index.js"; console.log(JSON.stringify([...declaredOperators()]));',
    ],
    { encoding: "utf8" },
  ),
);

test("every operator that is not optional is there", () => {
  const missing = declared.filter(([name, { optional }]) => !optional && !hasOp(name)).map(([name]) => name);
  expect(missing, `libtorch ${versionInfo().torch} lacks`).toEqual([]);
  expect(declared.length).toBeGreaterThan(150);
});

test("operators of 2.x are optional where 1.13 lacks them", () => {
  const optional = declared.filter(([, each]) => each.optional).map(([name]) => name);
  const [own, libtorchs] = [true, false].map((ours) => optional.filter((name) => name.startsWith("tessera::") === ours).sort());
  expect(libtorchs).toEqual([
    "_foreach_copy_",
    "_foreach_lerp_.Scalar",
    "_foreach_mul_.Tensor",
    "_fused_adamw_",
    "scaled_dot_product_attention",
  ]);
  if (!versionInfo().torch.startsWith("1.")) expect(libtorchs!.filter((name) => !hasOp(name))).toEqual([]);
  // They need a CPU with a micro-kernel for bfloat16, too.
  expect(own).toEqual(["tessera::attention", "tessera::cross_attention", "tessera::linear"]);
  expect(hasOp("tessera::attention")).toBe(hasOp("tessera::cross_attention"));
});

test("an argument that cannot be given from JavaScript is told in the schema", () => {
  const { schema } = ops.aten!.record_stream!.default!;
  expect(schema.arguments.map((each) => [each.type, each.supported])).toEqual([
    ["Tensor", true],
    ["Stream", false],
  ]);
});

test("operators that are refused say why", () => {
  for (const name of [
    "mm.out",
    "_cdist_forward",
    "quantized::add",
    "native_batch_norm",
    "lu_unpack",
    "lu_solve",
    "set_.source_Tensor",
    "lstm.data",
    "tanh_backward",
  ]) {
    expect(hasOp(name)).toBe(false);
    expect(() => op(name)(1)).toThrow(new RegExp(`^${name} cannot be called: .{20,}`));
  }
});
