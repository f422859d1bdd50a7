import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { checkImports } from "./check-imports.mjs";

let root;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "tessera-imports-"));
});
afterEach(() => rmSync(root, { recursive: true }));

/** Writes a made-up tree and returns the breaches as "file:line what: why". */
function breaches(tree) {
  for (const [path, text] of Object.entries(tree)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return checkImports(root).map(({ file, line, what, why }) => `${file}:${line} ${what}: ${why}`);
}

const DOORS = {
  "src/errors.ts": "export class TesseraError extends Error {}\n",
  "src/torch/index.ts": 'export * from "./tensor.js";\n',
  "src/torch/tensor.ts": 'import { TesseraError } from "../errors.js";\nexport const t = TesseraError;\n',
  "src/nn/index.ts": 'import { t } from "../torch/index.js";\nexport const n = t;\n',
  "src/data/index.ts": 'import "./tensors.js";\nexport type ViewPlan = number;\n',
  "src/data/tensors.ts": 'import { t } from "../torch/index.js";\nexport const x = t;\n',
  "src/models/index.ts": 'import { n } from "../nn/index.js";\nexport const m = n;\n',
  "src/methods/index.ts":
    'import type { ViewPlan } from "../data/index.js";\nimport "../models/index.js";\nexport type P = ViewPlan;\n',
  "src/evaluate/index.ts": 'import "../methods/index.js";\nimport "../data/index.js";\nexport const e = 1;\n',
  "src/train/index.ts": 'import "../evaluate/index.js";\nexport const r = 1;\n',
  "src/cli/index.ts": 'import "../train/index.js";\n',
  "src/index.ts": 'export * from "./torch/index.js";\nexport * from "./train/index.js";\n',
};

describe("the import rule", () => {
  it("holds for a tree that follows it", () => {
    expect(breaches(DOORS)).toEqual([]);
  });

  it("wants the door of another folder", () => {
    const tree = { ...DOORS, "src/nn/linear.ts": '// one\nimport { t } from "../torch/tensor.js";\nexport const l = t;\n' };
    expect(breaches(tree)).toEqual(["src/nn/linear.ts:2 ../torch/tensor.js: import the door instead: src/torch/index.js"]);
  });

  it.each([
    ["torch", "nn", "it may import no other folder"],
    ["nn", "models", "it may import torch"],
    ["evaluate", "train", "it may import torch, nn, optim, models, methods, data, draw, config, fit"],
    ["methods", "cli", "it may import torch, nn, optim, models, data, draw"],
    ["data", "torch", "only src/data/tensors.ts and src/data/coco/tensors.ts may"],
  ])("does not let %s import %s", (from, to, why) => {
    const tree = { ...DOORS, [`src/${from}/other.ts`]: `import "../${to}/index.js";\n` };
    expect(breaches(tree)).toEqual([`src/${from}/other.ts:1 ../${to}/index.js: src/${from}/ does not import src/${to}/: ${why}`]);
  });

  it("sees re-exports, dynamic imports and type imports", () => {
    const tree = {
      ...DOORS,
      "src/torch/a.ts": 'export { n } from "../nn/index.js";\n',
      "src/torch/b.ts": 'export const later = () => import("../nn/index.js");\n',
      "src/torch/c.ts": 'import type { n } from "../nn/index.js";\nexport type N = typeof n;\n',
    };
    expect(breaches(tree).map((line) => line.split(" ")[0])).toEqual([
      "src/torch/a.ts:1",
      "src/torch/b.ts:1",
      "src/torch/c.ts:1",
    ]);
  });

  it("keeps the shared files free of folders, and the users' door out of the folders", () => {
    const tree = { ...DOORS, "src/errors.ts": 'import "./torch/index.js";\n', "src/torch/tensor.ts": 'import "../index.js";\n' };
    expect(breaches(tree)).toEqual([
      "src/errors.ts:1 ./torch/index.js: a file directly in src/ is shared by all folders, so it may import none of them",
      "src/torch/tensor.ts:1 ../index.js: src/index.ts is the door for users; inside, import the folder that has it",
    ]);
  });

  it("knows every folder", () => {
    const [breach] = breaches({ ...DOORS, "src/extra/index.ts": 'import "../torch/index.js";\n' });
    expect(breach).toContain("src/extra/ is not in the list of folders");
  });

  it("lets a unit test use any door, but no other folder's inside", () => {
    const tree = { ...DOORS, "src/torch/a.test.ts": 'import "../models/index.js";\nimport "../data/tensors.js";\n' };
    expect(breaches(tree)).toEqual(["src/torch/a.test.ts:2 ../data/tensors.js: import the door instead: src/data/index.js"]);
  });

  it("has tests, benchmarks and recipes use the doors", () => {
    const tree = { ...DOORS, "tests/a/b.test.ts": 'import "../../src/torch/index.js";\nimport "../../src/data/tensors.js";\n' };
    expect(breaches(tree)).toEqual(["tests/a/b.test.ts:2 ../../src/data/tensors.js: import the door instead: src/data/index.js"]);
  });

  it("allows one script, and no other file outside src/", () => {
    const tree = {
      ...DOORS,
      "src/torch/native.ts": 'import "../../scripts/addon-path.mjs";\nimport "../../scripts/setup.mjs";\n',
    };
    expect(breaches(tree)).toEqual([
      "src/torch/native.ts:2 ../../scripts/setup.mjs: src/ imports nothing outside itself but scripts/addon-path.mjs",
    ]);
  });
});

describe("cycles inside a folder", () => {
  const cycle = (last) => ({
    "src/torch/index.ts": 'export * from "./a.js";\n',
    "src/torch/a.ts": 'import "./deep/b.js";\n',
    "src/torch/deep/b.ts": 'import "../c.js";\n',
    "src/torch/c.ts": last,
  });

  it("are told once, with the way round", () => {
    expect(breaches(cycle('\nimport "./a.js";\n'))).toEqual([
      "src/torch/c.ts:2 ./a.js: the files import each other in a circle: src/torch/a.ts -> src/torch/deep/b.ts -> src/torch/c.ts -> src/torch/a.ts",
    ]);
  });

  it("are not made by types or by imports at call time", () => {
    expect(breaches(cycle('import type { A } from "./a.js";\nexport const f = (a: A) => import("./a.js");\n'))).toEqual([]);
  });
});
