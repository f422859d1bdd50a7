// Recipe files of every kind, anywhere on disk, and what is said of those that do not work.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import * as torch from "../torch/index.js";
import { loadRecipe, RecipeFileError, readRecipe } from "./load-recipe.js";
import { ConfigError } from "./recipe.js";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "tessera recipes-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

function write(name: string, text: string): string {
  const path = join(folder, name);
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(path, text);
  return path;
}

const body = `{ data: { train: "fashion-mnist" }, method: { name: "mst" } }`;

describe("kinds of files", () => {
  it("reads TypeScript outside of the project, with imports of its own", async () => {
    write("parts/size.ts", "export const size: number = 28;\n");
    const path = write(
      "small mst.ts",
      `import { defineRecipe, type RecipeInput } from "tessera";
import { size } from "./parts/size.js";
interface Unused { a: number }
const recipe: RecipeInput = defineRecipe({
  data: { train: "fashion-mnist" },
  model: { patchSize: 7 },
  method: { name: "mst", dino: { crops: { globalSize: size as number, locals: 0 } } },
});
export default recipe;
`,
    );
    const recipe = await loadRecipe(path, ["train.epochs=7"]);
    expect(recipe).toMatchObject({ name: "small-mst", model: { imageSize: 28 }, train: { epochs: 7 } });
  });

  it("reads JavaScript modules, CommonJS and JSON alike", async () => {
    const files = [
      write("a.mjs", `import { defineRecipe } from "tessera";\nawait null;\nexport default defineRecipe(${body});\n`),
      write("b.cjs", `module.exports = ${body};\n`),
      write("c.js", `export default ${body};\n`),
      write("d.json", `{ "data": { "train": "fashion-mnist" }, "method": { "name": "mst" } }`),
    ];
    const recipes = await Promise.all(files.map((file) => loadRecipe(file)));
    expect(recipes.map(({ name }) => name)).toEqual(["a", "b", "c", "d"]);
    for (const { name: _, ...recipe } of recipes) expect(recipe).toEqual({ ...recipes[0], name: undefined });
  });

  it("reads the recipe.json of a run, which is called after its folder", async () => {
    const { name, ...resolved } = await loadRecipe(
      write("e.json", JSON.stringify({ data: { train: "cifar10" }, method: { name: "dino" } })),
    );
    const path = write("runs/some run/recipe.json", JSON.stringify({ versions: { tessera: "0" }, recipe: resolved }));
    expect(name).toBe("e");
    expect(await loadRecipe(path)).toEqual({ ...resolved, name: "some-run" });
  });

  it("gives recipes this very library, not a second copy of it", async () => {
    const path = write(
      "same.ts",
      `import * as tessera from "tessera";
import { Tensor } from "tessera/torch";
import { methods } from "tessera/methods";
export default { Tensor, methods, doors: Object.keys(tessera) };`,
    );
    const given = (await readRecipe(path)) as { Tensor: unknown; methods: object; doors: string[] };
    expect(given.Tensor).toBe(torch.Tensor);
    expect(Object.keys(given.methods)).toContain("mst");
    expect(given.doors).toContain("defineRecipe");
  });

  it("lets a recipe bring a method of its own", async () => {
    const path = write(
      "own.ts",
      `import { registerMethod, defineMethod } from "tessera";
import { methods } from "tessera/methods";
registerMethod({ ...methods.dino!, name: "my-dino" });
export default { data: { train: "cifar10" }, method: { name: "my-dino", crops: { globalSize: 64 } } };`,
    );
    expect(await loadRecipe(path)).toMatchObject({ method: { name: "my-dino", momentum: 0.996 }, model: { imageSize: 64 } });
  });
});

describe("files that do not work", () => {
  async function failure(path: string): Promise<string> {
    const error = await loadRecipe(path).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(RecipeFileError);
    expect((error as Error).message).not.toMatch(/\n| {4}at /);
    return (error as Error).message;
  }

  it("are told with file and line", async () => {
    const syntax = write("syntax.ts", `export default {\n  data: { train: "x", , },\n};\n`);
    expect(await failure(syntax)).toBe(`${syntax}:2:23: Unexpected token`);
    const throws = write(
      "throws.ts",
      `interface A { b: number }\n\nconst a = undefined as unknown as A;\nexport default { x: a.b };\n`,
    );
    expect(await failure(throws)).toMatch(`${throws}:4:`);
    expect(await failure(throws)).toContain("TypeError: Cannot read properties of undefined");
    const missing = write("missing.ts", `import x from "./nowhere.js";\nexport default x;\n`);
    expect(await failure(missing)).toMatch(/missing\.ts:1:\d+: Cannot find module '\.\/nowhere\.js'$/);
    const helper = write("helper.ts", `export function fail(): never {\n  throw new Error("no such size");\n}\n`);
    const uses = write("uses.ts", `import { fail } from "./helper.js";\nexport default fail();\n`);
    expect(await failure(uses)).toBe(`${helper}:2:9: no such size`);
    const name = write("name.ts", `import { defineRecip } from "tessera";\nexport default defineRecip({});\n`);
    expect(await failure(name)).toMatch(/name\.ts:2:\d+: TypeError: defineRecip is not a function$/);
  });

  it("are told what a recipe file is", async () => {
    expect(await failure(join(folder, "gone.ts"))).toMatch(/^there is no recipe .*gone\.ts$/);
    expect(await failure(folder)).toMatch(/is a folder; expected a recipe file/);
    expect(await failure(write("recipe.yaml", "a: 1"))).toMatch(/is not a recipe: expected a file that ends in \.ts/);
    expect(await failure(write("bad.json", "{ a: 1 }"))).toMatch(/^.*bad\.json is not JSON: /);
    expect(await failure(write("none.ts", "export const recipe = {};"))).toMatch(
      /has no default export; expected: export default/,
    );
    expect(await failure(write("list.ts", "export default [1];"))).toMatch(/exports by default a list;/);
    expect(await failure(write("function.ts", "export default () => ({});"))).toMatch(/exports by default a function;/);
  });

  it("are named in the problems of a wrong recipe", async () => {
    const path = write(
      "wrong.ts",
      `export default { data: { train: "cifar10" }, method: { name: "dino" }, train: { epoch: 1 } };`,
    );
    await expect(loadRecipe(path)).rejects.toThrow(ConfigError);
    await expect(loadRecipe(path)).rejects.toThrow(`${path}: train.epoch is unknown; did you mean train.epochs?`);
    await expect(loadRecipe(path, ["train.epoch.x=1"])).rejects.toThrow(
      "the command line: --set train.epoch.x=1: train.epoch is 1",
    );
  });
});
