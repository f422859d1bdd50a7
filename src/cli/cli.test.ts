// The command line's small parts.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TesseraError } from "../errors.js";
import { ConfigError, type Recipe, resolveRecipe } from "../train/index.js";
import { report } from "./doctor.js";
import { CommandError, describeError, UsageError } from "./errors.js";
import { createProgram } from "./main.js";
import { Counter, table } from "./output.js";
import { describeRecipe, stamp } from "./pretrain.js";
import { recipeBeside, weightsFile } from "./weights.js";

describe("describeError", () => {
  it("gives the sentence and the code of errors thrown on purpose", () => {
    expect(describeError(new UsageError("no"))).toEqual({ text: "tessera: no", code: 2 });
    expect(describeError(new ConfigError([{ path: "a", message: "a is b" }]))).toEqual({
      text: "tessera: the recipe: a is b",
      code: 2,
    });
    expect(describeError(new CommandError("no"))).toEqual({ text: "tessera: no", code: 1 });
    expect(describeError(new TesseraError("no"))).toEqual({ text: "tessera: no", code: 1 });
  });

  it("calls all others internal, and says how to see more", () => {
    const { text, code } = describeError(new TypeError("x is not a function"));
    expect(text).toMatch(/^tessera: internal: TypeError: x is not a function\n\(this is a bug in tessera; TESSERA_DEBUG=1 /);
    expect(code).toBe(1);
    expect(describeError(new Error("internal: no builder")).text).toMatch(/^tessera: internal: no builder\n/);
    expect(describeError(new TesseraError("internal: no builder")).text).toMatch(
      /^tessera: internal: no builder\n\(this is a bug/,
    );
    expect(describeError("thrown text").text).toMatch(/^tessera: internal: thrown text\n/);
    expect(describeError(undefined).text).toMatch(/^tessera: internal: undefined\n/);
  });

  it("takes what the system refuses as it is", () => {
    const full = Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC", syscall: "write" });
    expect(describeError(full)).toEqual({ text: "tessera: ENOSPC: no space left on device, write", code: 1 });
  });

  it("shows the stack and its causes when asked", () => {
    const { text } = describeError(new TesseraError("outer", { cause: new Error("inner") }), true);
    expect(text).toMatch(/^tessera: outer\n/);
    expect(text).toMatch(/caused by Error: inner\n {4}at /);
  });
});

describe("table", () => {
  it("aligns texts to the left and numbers to the right", () => {
    expect(
      table([
        ["name", "top-1"],
        ["raw pixels", "84.6 %"],
        ["x", "9.1 %"],
      ]),
    ).toBe(["name         top-1", "raw pixels  84.6 %", "x            9.1 %"].join("\n"));
    expect(
      table(
        [
          ["a", "long text"],
          ["bb", "b"],
        ],
        "  ",
      ),
    ).toBe("  a   long text\n  bb  b");
  });
});

describe("Counter", () => {
  function shown(isTTY: boolean): string {
    let text = "";
    const stream = { isTTY, write: (chunk: string) => (text += chunk) } as unknown as NodeJS.WriteStream;
    const counter = new Counter("reading", false, stream);
    for (let done = 0; done <= 1000; done++) counter.show(done, 1000);
    counter.end();
    return text;
  }
  it("writes a line every ten percent where there is no terminal", () => {
    expect(shown(false).trim().split("\n")).toHaveLength(11);
  });
  it("rewrites one line in a terminal and removes it", () => {
    expect(shown(true)).not.toContain("\n");
    expect(shown(true).endsWith("\r\x1b[2K")).toBe(true);
  });
});

describe("doctor's parts", () => {
  it("reports what is missing, with what to do below it", () => {
    const text = report([
      { name: "node", status: "ok", found: "20.9.0", advice: "not shown" },
      { name: "libtorch", status: "missing", found: "none", advice: "make setup" },
    ]);
    expect(text.split("\n").slice(1)).toEqual([
      "ok       node      20.9.0",
      "MISSING  libtorch  none",
      "                   -> make setup",
      "missing: libtorch",
    ]);
  });
});

describe("pretrain's parts", () => {
  it("stamps a folder with the local time", () => {
    expect(stamp(new Date(2025, 0, 2, 3, 4, 5))).toBe("20250102-030405");
  });
  it("prints a recipe, a line a section", () => {
    const recipe: Recipe = resolveRecipe({ name: "a", data: { train: "cifar10" }, method: { name: "dino" } });
    const lines = describeRecipe(recipe).split("\n");
    expect(lines[0]).toBe("recipe a");
    expect(lines.slice(1).map((line) => line.trim().split(" ")[0])).toEqual(Object.keys(recipe).filter((key) => key !== "name"));
    expect(lines.join("\n")).toContain("clip.kind=per-tensor clip.maxNorm=3");
  });
});

describe("weights", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "tessera-weights-"));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it("are a run's export, else its newest checkpoint, else the file", () => {
    const run = join(folder, "run");
    mkdirSync(join(run, "checkpoints"), { recursive: true });
    expect(() => weightsFile(run)).toThrow(/neither export\/backbone\.safetensors nor a checkpoint/);
    for (const name of ["step-000000010.safetensors", "step-000000002.safetensors", "best.safetensors"]) {
      writeFileSync(join(run, "checkpoints", name), "");
    }
    expect(weightsFile(run)).toBe(join(run, "checkpoints", "step-000000010.safetensors"));
    mkdirSync(join(run, "export"));
    const exported = join(run, "export", "backbone.safetensors");
    writeFileSync(exported, "");
    expect(weightsFile(run)).toBe(exported);
    expect(weightsFile(exported)).toBe(exported);
    expect(() => weightsFile(join(folder, "gone"))).toThrow(/there is no .*gone/);
    writeFileSync(join(folder, "a.pth"), "");
    expect(() => weightsFile(join(folder, "a.pth"))).toThrow(/is no safetensors file/);
    expect(recipeBeside(exported)).toBeNull();
    const recipe = resolveRecipe({ data: { train: "cifar10" }, method: { name: "dino" } });
    writeFileSync(join(run, "recipe.json"), JSON.stringify({ versions: {}, recipe }));
    expect(recipeBeside(exported)).toEqual(recipe);
    expect(recipeBeside(join(folder, "a.pth"))).toBeNull();
  });
});

describe("the program", () => {
  it("has the commands that were promised, each with a description and an example", () => {
    const program = createProgram();
    const names = program.commands.map((command) => command.name());
    expect(names).toEqual(["pretrain", "evaluate", "study", "show", "demo", "data", "doctor", "bench"]);
    for (const command of program.commands) expect(command.description()).not.toBe("");
  });
});
