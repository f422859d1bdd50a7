// A study from its first run to its report: killed anywhere, interrupted, changed, with an arm that fails.
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Dino, defineMethod, dinoOptions, type Progress, registerMethod } from "../src/methods/index.js";
import {
  makeReport,
  planStudy,
  type Reporter,
  resolveStudy,
  runStudy,
  type StudyInput,
  type StudyReport,
  studyMarkdown,
  studyTable,
  withSection,
  writeIntoPage,
} from "../src/train/index.js";
import { tessera } from "./cli-harness.js";
import { expectSameRun, readLines, tinyDino, tinyRecipe, trainingGround } from "./train-harness.js";

const ground = trainingGround();
afterAll(() => ground.remove());
const at = (name: string) => join(ground.folder, name);

const data = { train: ground.data, subset: 96 };
const base = tinyDino(ground.data, { data, checkpoint: { everySteps: 2 }, train: { epochs: 1 } });
const input = {
  name: "tiny",
  title: "DINO and MST",
  notes: "Which of two is better on rows that are bright.",
  base,
  arms: { dino: {}, mst: { recipe: tinyRecipe(ground.data, { data, train: { epochs: 1 } }), label: "MST" } },
  evaluate: {
    trainImages: 60,
    knn: { k: [5, 3] },
    linear: { epochs: 3, lr: [0.01, 0.1], batchSize: 20, readouts: ["mean"] },
    attentive: { epochs: 2, lr: [3], batchSize: 20 },
  },
  baselines: ["random", "pixels"],
  paper: { table: "table 1", values: { dino: { linear: 75.9 }, mst: { linear: 76.9, "fine-tune": 80 } } },
} satisfies StudyInput;

interface Asked {
  arms?: string[];
  seeds?: number[];
  /** Throws at this call of the reporter, as a kill would end everything there. */
  dieAt?: number;
  onLine?: (text: string) => void;
  command?: string;
}

/** Runs a study, tells what was said. */
async function go(out: string, { dieAt = Number.POSITIVE_INFINITY, onLine, ...how }: Asked = {}, study: StudyInput = input) {
  const said: string[] = [];
  let calls = 0;
  const call = () => {
    if (++calls === dieAt) throw new Error("killed");
  };
  const reporter: Reporter = {
    progress: call,
    line(text) {
      said.push(text);
      onLine?.(text);
      call();
    },
  };
  const outcome = await runStudy(await resolveStudy(study), { out, reporter, ...how });
  return { ...outcome, said: said.join("\n") };
}

/** A report without what the clock decides. */
function timelessReport({ rows, ...report }: StudyReport) {
  const { totalSeconds: _, days: __, ...facts } = report;
  return { ...facts, rows: rows.map(({ seconds, ...row }) => ({ ...row, trained: seconds?.n })) };
}

const json = (path: string) => JSON.parse(readFileSync(path, "utf8"));
const runs = ["dino/seed-0", "dino/seed-1", "mst/seed-0", "mst/seed-1"];

let whole: Awaited<ReturnType<typeof go>>;
beforeAll(async () => {
  whole = await go(at("whole"), { command: "npx tessera study tiny.ts" });
});

describe("a study", () => {
  it("trains every arm with every seed, all arms of a seed first, and evaluates each", () => {
    expect(whole.status).toBe("done");
    expect(whole.said.match(/^\[.*(training|evaluating)/gm)).toEqual(
      [1, 2, 3, 4].flatMap((i) => {
        const head = `[${i}/4] ${i % 2 === 1 ? "dino" : "MST"}, seed ${i < 3 ? 0 : 1}: `;
        return [`${head}training`, `${head}evaluating`];
      }),
    );
    expect(whole.said).toMatch(/\[2\/4\] MST, seed 0: training, 6 steps, about \d+ s left for the whole study/);
    for (const run of runs) {
      const { trained, evaluations } = json(join(at("whole"), run, "result.json"));
      expect(trained).toMatchObject({ step: 6, versions: { node: process.versions.node }, machine: { threads: 1 } });
      expect(trained.seconds).toBe(readLines(join(at("whole"), run)).at(-1)!.seconds);
      expect(Object.keys(evaluations.knn.measured)).toEqual(["class 5", "class 3", "mean 5", "mean 3"]);
      expect(evaluations.knn.images).toEqual({ train: 60, test: 40 });
      expect(evaluations.linear.measured).toEqual({
        mean: { top1: expect.any(Number), top5: expect.any(Number), baseLr: expect.any(Number), epoch: 3 },
      });
      expect(evaluations.attentive).toMatchObject({
        measured: { tokens: { top1: expect.any(Number), top5: expect.any(Number), baseLr: 3, epoch: 2 } },
        images: { train: 60, test: 40 },
      });
      expect(json(join(at("whole"), run, "recipe.json")).recipe).toMatchObject({
        name: `tiny-${run.replace("/seed-", "-")}`,
        train: { seed: Number(run.at(-1)) },
      });
    }
  });

  it("reports means, spreads and differences of what was measured", () => {
    const { rows, columns, reference } = whole.report;
    expect(columns.map(({ label }) => label)).toEqual([
      "k-NN class, k 5",
      "k-NN mean, k 5",
      "k-NN class, k 3",
      "k-NN mean, k 3",
      "linear mean",
      "attentive",
    ]);
    expect(reference).toEqual({ name: "dino", label: "dino" });
    expect(rows.map(({ kind, label, seeds }) => [kind, label, seeds.length])).toEqual([
      ["baseline", "random encoder", 2],
      ["baseline", "raw pixels", 1],
      ["arm", "dino", 2],
      ["arm", "MST", 2],
    ]);
    const measured = (run: string): number => json(join(at("whole"), run, "result.json")).evaluations.knn.measured["mean 5"].top1;
    const [d0, d1, m0, m1] = runs.map(measured) as [number, number, number, number];
    const [, , dinoRow, mstRow] = rows.map(({ cells }) => cells["knn mean 5"]!);
    expect(dinoRow).toEqual({
      mean: (d0 + d1) / 2,
      spread: expect.closeTo(Math.abs(d0 - d1) / Math.SQRT2, 9),
      n: 2,
      difference: null,
    });
    expect(mstRow!.difference).toEqual({
      mean: expect.closeTo((m0 + m1 - d0 - d1) / 2, 9),
      spread: expect.closeTo(Math.abs(m0 - d0 - m1 + d1) / Math.SQRT2, 9),
      n: 2,
    });
    // Bright rows are told apart by the pixels themselves, whichever read-out the column has.
    for (const { id } of columns.slice(0, -1)) expect(rows[1]!.cells[id]!.mean).toBeGreaterThan(90);
    // Pixels are no tokens to look at, and nothing is missing because of it.
    expect(rows[1]).toMatchObject({ notes: [], cells: expect.not.objectContaining({ "attentive tokens": expect.anything() }) });
    expect(rows[3]!.cells["attentive tokens"]).toMatchObject({ n: 2, difference: { n: 2 } });
    const [header, ...body] = studyTable(whole.report);
    expect(header).toEqual([
      "",
      ...columns.flatMap(({ label }) => [label, "to dino"]),
      "training",
      "paper: linear",
      "paper: fine-tune",
    ]);
    expect(body[3]!.slice(-3)).toEqual([expect.stringMatching(/^\d+ s$/), "76.9", "80"]);
    expect(body[3]![4]).toMatch(/^[+-]\d+\.\d\d ± \d+\.\d\d$/);
  });

  it("writes the report as JSON, Markdown and a picture", () => {
    expect(json(join(at("whole"), "study.json"))).toEqual(JSON.parse(JSON.stringify(whole.report)));
    const text = readFileSync(join(at("whole"), "study.md"), "utf8");
    expect(text).toBe(`${studyMarkdown(whole.report, { chart: "study.png" })}\n`);
    expect(text).toMatch(/^# DINO and MST\n\nWhich of two is better on rows that are bright\.\n\n\| +\|/);
    expect(text).toContain(
      "Top-1 in percent on 40 test images of fashion-mnist, by 60 training images, mean ± standard deviation over seeds 0, 1. Diff",
    );
    expect(text).toContain(
      'Linear probes by the protocol "grid" with epochs 3, batchSize 20, lr [0.01,0.1], and attentive probes, which read all tokens, by the protocol "grid" with epochs 2, batchSize 20, lr [3]; where one tries several learning rates, the best',
    );
    expect(text).toContain("The paper's figures are those of table 1.");
    expect(text).toMatch(
      /Made by `npx tessera study tiny\.ts`; \d{4}-\d\d-\d\d; \d+ s of training and evaluating; \d+ cores? of .*, 1 thread; libtorch \d\S+; tessera \d/,
    );
    expect(text).toMatch(/^- k-NN mean, k 5: (dino|MST) is best with \d/m);
    expect(
      readFileSync(join(at("whole"), "study.png"))
        .subarray(1, 4)
        .toString(),
    ).toBe("PNG");
  });

  it("does nothing again, and gives the same report", async () => {
    const before = runs.map((run) => readFileSync(join(at("whole"), run, "result.json"), "utf8"));
    const again = await go(at("whole"), { command: "npx tessera study tiny.ts" });
    expect(again.said).toBe("");
    expect(again.report).toEqual(whole.report);
    expect(runs.map((run) => readFileSync(join(at("whole"), run, "result.json"), "utf8"))).toEqual(before);
  });
});

describe("a study that is stopped", () => {
  it("comes to the same end after dying anywhere, and no evaluation is made twice", async () => {
    const evaluated: string[] = [];
    const onLine = (text: string) => void (/evaluating/.test(text) && evaluated.push(text));
    let lives = 0;
    for (;;) {
      lives += 1;
      try {
        const { report } = await go(at("killed"), { dieAt: 2 * lives, onLine, command: "npx tessera study tiny.ts" });
        expect(timelessReport(report)).toEqual(timelessReport(whole.report));
        break;
      } catch (error) {
        expect((error as Error).message).toBe("killed");
      }
    }
    expect(lives).toBeGreaterThan(5);
    // Told before it is made: what was told twice died in between.
    expect(evaluated.length).toBeLessThan(7 + lives);
    for (const run of runs) expectSameRun(join(at("killed"), run), join(at("whole"), run));
  });

  it("goes on after kill -9 of the process, at whatever it writes", async () => {
    const file = at("tiny.json");
    writeFileSync(file, JSON.stringify(input));
    const dieAt = `--import=${new URL("./fixtures/die-at.mjs", import.meta.url).href}`;
    const start = (death?: string) =>
      tessera(["study", file, "--out", at("kill-9"), "--arms", "dino", "--seeds", "0", "--json", "-q"], {
        env: death ? { NODE_OPTIONS: dieAt, DIE_AT: death } : {},
      });
    // Half a recipe.json, half a checkpoint, and the result of an evaluation before it has its name.
    for (const death of ["write:1", "write:140", "rename:7"]) expect((await start(death)).code, death).toBeNull();
    const { code, stdout, stderr } = await start();
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ status: "done", study: "tiny", out: at("kill-9") });
    expectSameRun(join(at("kill-9"), "dino/seed-0"), join(at("whole"), "dino/seed-0"));
  });

  it("leaves a checkpoint and a report on Ctrl-C, in training and between", async () => {
    const out = at("interrupted");
    let steps = 0;
    const signalled = (when: (text: string) => boolean) =>
      go(out, { onLine: (text) => void (when(text) && process.emit("SIGINT")) });
    const study = await resolveStudy(input);
    const first = await runStudy(study, {
      out,
      reporter: { line() {}, progress: ({ step }) => void (++steps && step === 3 && process.emit("SIGINT")) },
    });
    expect([first.status, steps]).toEqual(["interrupted", 3]);
    expect(first.report.rows.find(({ name }) => name === "dino")!.notes).toEqual([
      "seed 0: not finished yet",
      "seed 1: not begun yet",
    ]);
    expect((await planStudy(study, out)).runs[0]!.standing).toEqual({ state: "begun", step: 3, differs: [] });
    const second = await signalled((text) => /\] MST, seed 0: evaluating/.test(text));
    expect(second.said).toContain("[1/4] dino, seed 0: going on at step 3 of 6 steps");
    expect(second.status).toBe("interrupted");
    const rows = Object.fromEntries(second.report.rows.map(({ label, seeds, notes }) => [label, { seeds: seeds.length, notes }]));
    expect(rows.dino).toEqual({ seeds: 1, notes: ["seed 1: not begun yet"] });
    expect(rows.MST).toEqual({
      seeds: 0,
      notes: ["seed 0: not evaluated by knn, linear and attentive yet", "seed 1: not begun yet"],
    });
    expect(studyTable(second.report).map(([label]) => label)).toEqual([
      "",
      "random encoder",
      "raw pixels",
      "dino (1 of 2 seeds)",
      "MST (no results)",
    ]);
    expect((await go(out)).status).toBe("done");
    for (const run of runs) expectSameRun(join(out, run), join(at("whole"), run));
  });
});

describe("a study that changes", () => {
  it("runs only the arms and seeds that are asked for", async () => {
    const out = at("part");
    await expect(go(out, { arms: ["dinu"] })).rejects.toThrow(
      'the study has no arm "dinu"; did you mean "dino"? known: dino, mst',
    );
    await expect(go(out, { seeds: [3] })).rejects.toThrow("the study has no seed 3; known: 0, 1");
    const { report, said } = await go(out, { arms: ["dino"], seeds: [1] }, { ...input, baselines: [] });
    expect(said).toContain("[1/1] dino, seed 1: training");
    expect(existsSync(join(out, "mst"))).toBe(false);
    expect(report.rows.map(({ label, notes }) => [label, notes])).toEqual([
      ["dino", ["seed 0: not begun yet"]],
      ["MST", ["seed 0, 1: not begun yet"]],
    ]);
  });

  it("refuses an arm that has results of another recipe, by the keys, until its folder is removed", async () => {
    const out = at("changed");
    cpSync(at("whole"), out, { recursive: true });
    const arms = { ...input.arms, dino: { set: { "optimizer.lr": 1e-3, "method.momentum": 0.9, "train.workers": 0 } } };
    const changed = { ...input, arms };
    await expect(go(out, {}, changed)).rejects.toThrow(
      new RegExp(
        `^${out}/dino/seed-0 was made with another recipe; it differs in method\\.momentum, optimizer\\.lr\n` +
          `${out}/dino/seed-1 was made with another recipe; it differs in method\\.momentum, optimizer\\.lr\n` +
          "Remove these folders to run anew, set the study's recipes back, or choose another folder with --out$",
      ),
    );
    // The others may go on; the report leaves the old results out and says so.
    const { report } = await go(out, { arms: ["mst"] }, changed);
    const row = report.rows.find(({ name }) => name === "dino")!;
    expect(row).toMatchObject({
      seeds: [],
      notes: ["seed 0, 1: made with another recipe, which differs in method.momentum, optimizer.lr"],
    });
    rmSync(join(out, "dino"), { recursive: true });
    const { said } = await go(out, {}, changed);
    expect(said.match(/: training/g)).toHaveLength(2);
    expect(said).not.toContain("MST");
  });

  it("makes evaluations again whose settings changed, and trains nothing", async () => {
    const out = at("evaluated");
    cpSync(at("whole"), out, { recursive: true });
    const { said, report } = await go(
      out,
      {},
      { ...input, evaluate: { testImages: 20, knn: { readouts: ["class+mean"], k: [1] } } },
    );
    expect(said).not.toContain("training");
    expect(said.match(/evaluating \(knn\)$/gm)).toHaveLength(7);
    expect(report.columns).toEqual([{ id: "knn class+mean 1", label: "k-NN class+mean" }]);
    expect(report.images).toMatchObject({ train: 200, test: 20 });
    // Of the old settings' k-NN nothing is left to show.
    const old = await makeReport(await resolveStudy(input), out);
    expect(old.rows[2]!.notes).toEqual(["seed 0, 1: not evaluated by knn yet"]);
    expect(Object.keys(old.rows[2]!.cells)).toEqual(["linear mean", "attentive tokens"]);
  });
});

/** DINO whose loss is not a number at its fourth step. */
class Breaking extends Dino {
  override step(...[batch, progress]: Parameters<Dino["step"]>) {
    const result = super.step(batch, progress);
    return (progress as Progress).step === 3 ? { ...result, loss: result.loss.mul(Number.NaN) } : result;
  }
}

describe("an arm that cannot", () => {
  it("go on with a loss that is no number is noted, and the others are run", async () => {
    registerMethod(
      defineMethod({ name: "breaking", options: dinoOptions, create: (options, context) => new Breaking(options, context) }),
    );
    const { name: _, ...options } = base.method;
    const broken = { recipe: { ...base, method: { name: "breaking", ...options } } } as unknown as StudyInput["arms"][string];
    const study = { ...input, paper: undefined, baselines: [], seeds: [0], arms: { broken, dino: {} } };
    const out = at("broken");
    const { report, said, status } = await go(out, {}, study);
    expect([status, report.failures]).toEqual(["done", 1]);
    expect(report.rows.map(({ seeds }) => seeds.length)).toEqual([0, 1]);
    expect(report.rows[0]!.notes).toEqual([expect.stringMatching(/^seed 0: failed: .*the loss is NaN/)]);
    expect(said).toContain("[2/2] dino, seed 0: training");
    const again = await go(out, {}, study);
    expect(again.said).toContain(`failed before`);
    expect(again.said).toContain(`remove ${out}/broken/seed-0 to try again`);
    expect(again.report.failures).toBe(1);
  });

  it("be evaluated as asked is told of before anything is trained", async () => {
    const evaluate = { ...input.evaluate, attentive: { heads: 7 } };
    await expect(go(at("heads"), {}, { ...input, evaluate })).rejects.toThrow(
      /^arm "dino": The attentive probe has 7 heads; expected a number that divides the encoder's width, \d+\.$/,
    );
    expect(existsSync(at("heads"))).toBe(false);
  });

  it("be built, or has no images, ends the study before anything is trained", async () => {
    const out = at("never");
    const study = (set: Record<string, unknown>) => ({ ...input, paper: undefined, arms: { dino: {}, other: { set } } });
    await expect(go(out, {}, study({ "data.train": "folder:/nowhere", "data.test": "folder:/nowhere" }))).rejects.toThrow(
      "folder:/nowhere is not a folder.",
    );
    await expect(go(out, {}, study({ "train.batchSize": 500 }))).rejects.toThrow(/fewer than one step of 500 x 2/);
    expect(existsSync(out)).toBe(false);
  });
});

describe("a page of results", () => {
  it("has each study between its two comments, whatever stands around them", () => {
    const page = "# Results\n\nWords.\n\n<!-- study:a -->\nold\n<!-- /study:a -->\n\nMore.\n";
    expect(withSection(page, "a", "new")).toBe("# Results\n\nWords.\n\n<!-- study:a -->\n\nnew\n\n<!-- /study:a -->\n\nMore.\n");
    const added = withSection(page, "b", "other");
    expect(added).toBe(`${page}\n<!-- study:b -->\n\nother\n\n<!-- /study:b -->\n`);
    expect(withSection(added, "b", "other")).toBe(added);
    expect(withSection("", "a", "new")).toBe("<!-- study:a -->\n\nnew\n\n<!-- /study:a -->\n");
    expect(() => withSection("<!-- study:a -->\n", "a", "new", "p.md")).toThrow(
      "p.md has <!-- study:a --> without <!-- /study:a --> after it; mend or remove it",
    );
    expect(() => withSection("<!-- /study:a -->\n", "a", "new")).toThrow(/without <!-- study:a -->/);
  });

  it("is written with the chart beside it", () => {
    const page = at("pages/results.md");
    writeIntoPage(page, whole.report, at("whole"));
    const text = readFileSync(page, "utf8");
    expect(text).toContain("<!-- study:tiny -->\n\n## DINO and MST\n");
    expect(text).toContain("](images/study-tiny.png)");
    expect(existsSync(at("pages/images/study-tiny.png"))).toBe(true);
    writeIntoPage(page, whole.report, at("whole"));
    expect(readFileSync(page, "utf8")).toBe(text);
  });
});
