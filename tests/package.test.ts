// The package as others see it: every door in package.json's `exports` is there after a build and can be imported by its name.
import { execFileSync, spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
  name: string;
  version: string;
  bin: Record<string, string>;
  files: string[];
  exports: Record<string, { types: string; default: string }>;
};

/** Runs a module in the root of the package and gives what it prints. */
function node(source: string): string {
  return execFileSync(process.execPath, ["--input-type=module", "-e", source], { cwd: root, encoding: "utf8" });
}

describe("exports", () => {
  it.each(Object.entries(manifest.exports))("%s is built, with types", (_, { types, default: code }) => {
    expect(existsSync(join(root, code))).toBe(true);
    expect(existsSync(join(root, types))).toBe(true);
    expect(manifest.files).toContain(code.split("/")[1]);
  });

  it("can be imported by name", () => {
    const names = Object.keys(manifest.exports).map((door) => door.replace(/^\./, manifest.name));
    const source = `const counts = {};
for (const name of ${JSON.stringify(names)}) counts[name] = Object.keys(await import(name)).length;
process.stdout.write(JSON.stringify(counts));`;
    const counts = JSON.parse(node(source)) as Record<string, number>;
    expect(Object.keys(counts)).toEqual(names);
    for (const [name, count] of Object.entries(counts)) expect(count, name).toBeGreaterThan(0);
  });

  it("give at the front door what a recipe and a program need, the same as the doors behind it", () => {
    const source = `import * as tessera from "tessera";
import { methodNamed } from "tessera/methods";
import * as train from "tessera/train";
import { Tensor } from "tessera/torch";
const recipe = tessera.defineRecipe({ data: { train: "fashion-mnist" }, method: { name: "mst" } });
process.stdout.write(JSON.stringify({
  same: tessera.resolveRecipe === train.resolveRecipe,
  width: tessera.resolveRecipe(recipe).model.width,
  method: methodNamed("mst").name,
  tensor: tessera.tensor([1, 2]) instanceof Tensor,
}));`;
    expect(JSON.parse(node(source))).toEqual({ same: true, width: 384, method: "mst", tensor: true });
  });

  it("keep everything else private", () => {
    const source = `const failed = await import("tessera/train/recipe.js").catch((error) => error.code);
process.stdout.write(String(failed));`;
    expect(node(source)).toBe("ERR_PACKAGE_PATH_NOT_EXPORTED");
  });
});

describe("bin", () => {
  it("is a program", () => {
    const path = join(root, manifest.bin.tessera!);
    accessSync(path, constants.X_OK);
    expect(statSync(path).isFile()).toBe(true);
    expect(readFileSync(path, "utf8").split("\n")[0]).toBe("#!/usr/bin/env node");
    expect(execFileSync(path, ["--version"], { encoding: "utf8" })).toBe(`${manifest.version}\n`);
  });

  it("is what npx runs in the root, without a registry", () => {
    const env = { ...process.env, npm_config_offline: "true", npm_config_update_notifier: "false" };
    const done = spawnSync("npx", ["tessera", "--version"], { cwd: root, env, encoding: "utf8" });
    expect(done.stdout, done.stderr).toBe(`${manifest.version}\n`);
  });
});
