// The command line's frame: exit codes, what goes to which output, what is said of wrong input.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { tessera, writeImage } from "./cli-harness.js";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "tessera-cli-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe("help and version", () => {
  it("are results: standard output, code 0", async () => {
    const version = await tessera(["--version"]);
    expect(version).toEqual({ code: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/), stderr: "" });
    for (const args of [
      ["--help"],
      ["help"],
      ["pretrain", "--help"],
      ["evaluate", "knn", "--help"],
      ["evaluate", "linear", "--help"],
      ["evaluate", "attentive", "--help"],
      ["data", "verify", "--help"],
    ]) {
      const help = await tessera(args);
      expect(help).toMatchObject({ code: 0, stderr: "" });
      expect(help.stdout).toMatch(/^Usage: tessera /);
      expect(help.stdout).toContain("Examples:");
    }
  });

  it("do not need the engine", async () => {
    const env = { LIBTORCH: join(folder, "nowhere") };
    expect((await tessera(["--version"], { env })).code).toBe(0);
    expect((await tessera(["pretrain", "--help"], { env })).code).toBe(0);
  });
});

describe("wrong usage", () => {
  it.each([
    [["pretran"], /unknown command 'pretran'\n\(Did you mean pretrain\?\)/],
    [["pretrain", "--rsume"], /unknown option '--rsume'\n\(Did you mean --resume\?\)/],
    [["evaluate", "kn"], /unknown command 'kn'\n\(Did you mean knn\?\)/],
    [
      ["evaluate", "knn"],
      /^tessera: give what is to be measured: either --weights PATH, or --pixels for the images' own pixels\n$/,
    ],
    [["evaluate", "linear", "-w", "x", "--pixels"], /^tessera: give what is to be measured: either --weights PATH, or --pixels/],
    [
      ["evaluate", "linear", "--pixels", "--size", "28"],
      /^tessera: --pixels needs the images and their size, as in --pixels --data/,
    ],
    [["evaluate", "linear", "--pixels", "--readout", "mean"], /^tessera: --readout is of an encoder, but --pixels has none\n$/],
    [["evaluate", "linear", "-w", "x", "--lr", "0.1,0"], /^tessera: --lr is "0"; expected a number above 0\n$/],
    [["evaluate", "linear", "-w", "x", "--readout", "mean,class"], /^tessera: --readout is mean,class; expected one\n$/],
    [
      ["evaluate", "linear", "-w", "x", "--preset", "dinov2"],
      /--preset <name>' argument 'dinov2' is invalid\. Allowed choices are grid, dino/,
    ],
    [
      ["evaluate", "linear", "-w", "x", "--augment", "often"],
      /^tessera: --augment is "often"; expected a whole number, 1 or more\n$/,
    ],
    [["evaluate", "attentive"], /^tessera: give the encoder with --weights PATH\n$/],
    [["evaluate", "attentive", "-w", "x", "--pixels"], /unknown option '--pixels'/],
    [["evaluate", "attentive", "-w", "x", "--optimizer", "lars"], /unknown option '--optimizer'/],
    [
      ["evaluate", "attentive", "-w", "x", "--attention-heads", "0"],
      /--attention-heads is "0"; expected a whole number, 1 or more/,
    ],
    [["evaluate", "attentive", "-w", "x", "--preset", "dino"], /'dino' is invalid\. Allowed choices are grid, cae/],
    [["show"], /missing required argument 'run'/],
    [["doctor", "now"], /too many arguments/],
    [["pretrain"], /^tessera: give a recipe, as in: tessera pretrain /],
    [["pretrain", "--resume"], /^tessera: --resume needs the run to go on with: give --out DIR\n$/],
    [["pretrain", "gone.ts"], /^tessera: there is no recipe gone\.ts\n$/],
    [["pretrain", "a.ts", "--resume", "--init-from", "b"], /give one of them/],
    [["pretrain", "--resume", "--out", "gone"], /gone is not the folder of a run/],
    [["show", "gone"], /gone is not the folder of a run: it has no recipe\.json/],
    [["evaluate", "knn", "-w", "gone"], /there is no gone; expected a run folder or a safetensors file/],
    [["evaluate", "knn", "-w", "x", "--k", "10,many"], /--k is "many"; expected a whole number, 1 or more/],
    [["evaluate", "knn", "-w", "x", "--readout", "cls"], /--readout is "cls"; expected class, mean, class\+mean/],
    [["data", "verify", "folder:x", "--split", "val"], /--split is "val"; expected train or test/],
    [["demo", "--method", "msts"], /there is no demo of "msts"; did you mean "mst"\?/],
    [["bench", "gone"], /there is no measurement "gone"/],
  ])("%j is told on standard error with code 2", async (args, text) => {
    const { code, stdout, stderr } = await tessera(args, { cwd: folder });
    expect(stderr).toMatch(text);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).not.toMatch(/^ {4}at /m);
  });

  it("shows the help when no command is given", async () => {
    const { code, stdout, stderr } = await tessera([]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toMatch(/^Usage: tessera/);
  });

  it("tells all problems of a recipe", async () => {
    const path = join(folder, "wrong.ts");
    writeFileSync(
      path,
      `import { defineRecipe } from "tessera";\nexport default { data: { train: "cifar10" }, method: { name: "dino" }, optimizer: { leaning_rate: 1 } };\n`,
    );
    const { code, stderr } = await tessera(["pretrain", path, "--set", "train.epochs=0", "-s", "model.size=tini"]);
    expect(code).toBe(2);
    expect(stderr.split("\n")).toEqual([
      `tessera: ${path} has 3 problems:`,
      '  model.size is "tini"; expected one of "tiny", "small", "base", "large"; did you mean "tiny"?',
      expect.stringMatching(/^ {2}optimizer\.leaning_rate is unknown; did you mean optimizer\.lr\? known: name, lr, /),
      "  train.epochs is 0; expected more than 0",
      "",
    ]);
  });

  it("tells where a recipe file fails, and shows the stack only when asked", async () => {
    const path = join(folder, "throws.ts");
    writeFileSync(path, `const size: number = 1;\nthrow new RangeError("size is " + size);\n`);
    const { code, stderr } = await tessera(["pretrain", path]);
    expect({ code, stderr }).toEqual({ code: 2, stderr: `tessera: ${path}:2:7: RangeError: size is 1\n` });
    const debug = await tessera(["pretrain", path], { env: { TESSERA_DEBUG: "1" } });
    expect(debug.stderr).toMatch(/^ {4}at /m);
    expect(debug.stderr).toContain("caused by RangeError: size is 1");
  });

  it("leaves a folder that is in use alone", async () => {
    const used = join(folder, "used");
    mkdirSync(used);
    writeFileSync(join(used, "letter.txt"), "keep me");
    const recipe = join(folder, "any.json");
    writeFileSync(recipe, "{}");
    const { code, stderr } = await tessera(["pretrain", recipe, "--out", used]);
    expect({ code, stderr }).toEqual({ code: 2, stderr: `tessera: ${used} is not empty: choose another folder with --out\n` });
    const demo = await tessera(["demo", "--out", used], { env: { FASHION_MNIST: folder } });
    expect(demo.code).not.toBe(0);
    const file = await tessera(["pretrain", recipe, "--out", recipe]);
    expect(file.code).toBe(2);
    expect(file.stderr).toContain("cannot be used as the run folder");
  });
});

describe("doctor", () => {
  interface Report {
    ok: boolean;
    checks: { name: string; status: string; found: string; advice?: string }[];
  }

  it("says what is there", async () => {
    const { code, stdout, stderr } = await tessera(["doctor", "--json"]);
    const report = JSON.parse(stdout) as Report;
    expect({ code, stderr, ok: report.ok }).toEqual({ code: 0, stderr: "", ok: true });
    const names = report.checks.map(({ name }) => name);
    expect(names).toEqual([
      "node",
      "compiler",
      "libtorch",
      "addon",
      "engine",
      "cpu",
      "threads",
      "bfloat16",
      "allocator",
      "cuda",
      "sharp",
      "fashion-mnist",
    ]);
    for (const { found, status, advice } of report.checks) {
      expect(found).not.toBe("");
      if (status !== "ok") expect(advice).toBeTruthy();
    }
  });

  it("says what is missing and what to do, with code 1", async () => {
    const env = { LIBTORCH: join(folder, "nowhere"), FASHION_MNIST: folder };
    const { code, stdout, stderr } = await tessera(["doctor"], { env });
    expect({ code, stderr }).toEqual({ code: 1, stderr: "" });
    expect(stdout).toMatch(
      /^MISSING {2}libtorch .*nowhere", and there is no such folder\n +-> set it to a folder with libtorch's lib\//m,
    );
    expect(stdout).toMatch(/^MISSING {2}addon .*\n +-> make setup, once libtorch is there/m);
    expect(stdout).toMatch(/^note {5}fashion-mnist +FASHION_MNIST is .*which lacks train-images-idx3-ubyte/m);
    expect(stdout).toMatch(/\nmissing: libtorch, addon, engine\n$/);
    const json = await tessera(["doctor", "--json"], { env });
    expect(json.code).toBe(1);
    expect((JSON.parse(json.stdout) as Report).ok).toBe(false);
  });

  it("is told by commands that need what is missing", async () => {
    const recipe = join(folder, "whole.json");
    writeFileSync(recipe, JSON.stringify({ data: { train: "fashion-mnist" }, method: { name: "dino" } }));
    const { code, stdout, stderr } = await tessera(["pretrain", recipe], { env: { LIBTORCH: join(folder, "nowhere") } });
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toMatch(/^tessera: the native addon is not built for LIBTORCH=.*: run make setup\.\n$/);
  });
});

describe("data verify", () => {
  beforeAll(async () => {
    for (const name of ["red", "blue"]) mkdirSync(join(folder, "images", name), { recursive: true });
    for (let i = 0; i < 4; i++) await writeImage(join(folder, "images", i % 2 ? "red" : "blue", `${i}.jpg`), 60 * i);
  });

  it("finds nothing wrong with good images", async () => {
    const { code, stdout } = await tessera(["data", "verify", `folder:${join(folder, "images")}`, "--quiet"]);
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringMatching(/: 4 images, all good\n$/) });
  });

  it("lists bad files by path and reason, with code 1", async () => {
    const bad = join(folder, "images", "red", "bad.jpg");
    writeFileSync(bad, "this is no image");
    const spec = `folder:${join(folder, "images")}`;
    const plain = await tessera(["data", "verify", spec]);
    expect(plain.code).toBe(1);
    expect(plain.stdout).toMatch(new RegExp(`^${bad}: .+\\n.*: 5 images, 1 bad\\n$`));
    const json = await tessera(["data", "verify", spec, "--json"]);
    expect(json.code).toBe(1);
    expect(JSON.parse(json.stdout)).toMatchObject({ spec, total: 5, bad: [{ path: bad, reason: expect.any(String) }] });
    rmSync(bad);
  });

  it("tells a dataset that is not there, or no kind", async () => {
    const gone = await tessera(["data", "verify", `folder:${join(folder, "gone")}`]);
    expect(gone).toMatchObject({ code: 1, stdout: "" });
    expect(gone.stderr).toMatch(/^tessera: /);
    const kind = await tessera(["data", "verify", "imagenet"]);
    expect(kind.stderr).toMatch(/^tessera: There is no dataset kind "imagenet"/);
  });
});
