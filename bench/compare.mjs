// Tessera beside PyTorch, in turns, and the table of docs/performance.md; what `make bench` runs. --help tells more.
//
// For each row both sides are started, each in a process of its own, and measured A B A B; the ratio is that of their medians, and beside it
// stand that of their best times, and what it was from turn to turn. PyTorch runs with its huge pages (THP_MEM_ALLOC_ENABLE), and also without
// where Tessera has none; by processor time neither side's idle threads spin, which would count as work.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { writePng } from "../dist/draw/index.js";
import { replaceText } from "../dist/files.js";
import { allocatorStats } from "../dist/torch/index.js";
import { oneOf, readFlags, refuse, someOf, wholeNumber } from "./_flags.mjs";
import { withRows } from "./_page.mjs";
import { pictureOf } from "./_picture.mjs";
import { rows } from "./_rows.mjs";
import { findPython, Side, settled } from "./_sides.mjs";
import { compared, machine, ratiosByTurns, short } from "./_stats.mjs";

const help = `Usage: [PYTHON=...] tessera bench compare [options]

  --rows LIST     parts of the rows' names, commas between: step/dino,knn (default all)
  --list          print the rows' names, and end
  --peers LIST    PyTorch's ways that are tried: eager, sdpa (fused attention), compile (default all three)
  --form F        the peer's form: lean leaves out what no loss looks at, as Tessera does (default), usual computes all as published code does
  --turns N       turns of each side (default 3)
  --repeats N     repeats in a turn (default 2)
  --warmup N      steps before the first turn (default 2)
  --batch N       images of a step (default the row's)
  --images N      images of a repeat of the data path (default 256)
  --clock C       wall (default), or cpu: processor time, for a machine that others use too
  --write         put the rows into docs/performance.md, and draw its table
  --json          one JSON object a row instead of text
`;

const text = (value) => ({ type: "string", default: value });
const flag = { type: "boolean", default: false };
const values = readFlags(help, {
  rows: text(""),
  list: flag,
  peers: text("eager,sdpa,compile"),
  form: text("lean"),
  turns: text("3"),
  repeats: text("2"),
  warmup: text("2"),
  batch: { type: "string" },
  images: { type: "string" },
  clock: text("wall"),
  write: flag,
  json: flag,
});

const parts = values.rows.split(",").filter(Boolean);
const chosen = rows.filter(({ name }) => parts.length === 0 || parts.some((part) => name.includes(part)));
if (chosen.length === 0)
  refuse(`--rows is "${values.rows}", which names no row; known: ${rows.map(({ name }) => name).join(", ")}`);
if (values.list) {
  process.stdout.write(`${chosen.map(({ name }) => name).join("\n")}\n`);
  process.exit(0);
}
const clock = oneOf("clock", values.clock, ["wall", "cpu"]);
const [turns, repeats, warmup] = ["turns", "repeats", "warmup"].map((each) => wholeNumber(each, values[each]));
const peers = someOf("peers", values.peers, ["eager", "sdpa", "compile"]);
const form = oneOf("form", values.form, ["lean", "usual"]);
const batch = values.batch === undefined ? undefined : wholeNumber("batch", values.batch);
const images = values.images === undefined ? undefined : wholeNumber("images", values.images);
const python = findPython();
if (!python)
  refuse("the comparison needs a Python with PyTorch, and none was found: set PYTHON to one, for example PYTHON=venv/bin/python");

const page = fileURLToPath(new URL("../docs/performance.md", import.meta.url));
const picture = fileURLToPath(new URL("../docs/images/performance.png", import.meta.url));
const { threads, cpu: processor } = machine();
const hugePages = { THP_MEM_ALLOC_ENABLE: "1" };
const allocations = allocatorStats().hugePages ? { "": hugePages } : { "": {}, ", huge pages": hugePages };
const quiet = clock === "cpu" ? { GOMP_SPINCOUNT: "0" } : {};
let failed = false;

for (const row of chosen) {
  const {
    ours,
    peers: others,
    per,
    title,
  } = await row.sides({ python: python.program, threads, peers, form, batch, images, warmup });
  const sides = [];
  try {
    sides.push(await Side.start("Tessera", ours));
    for (const [name, command] of Object.entries(others)) {
      for (const [form, pages] of Object.entries(allocations)) {
        sides.push(await Side.start(`PyTorch ${name}${form}`, command, { ...pages, ...quiet }));
      }
    }
    for (let turn = 0; turn < turns; turn++) {
      for (const side of sides) {
        await settled();
        await side.measure(repeats);
      }
    }
    await report(row, title, per, sides);
  } catch (error) {
    failed = true;
    process.stderr.write(`${row.name}: ${error.message}\n`);
  } finally {
    for (const side of sides) side.stop();
  }
}
process.exitCode = failed ? 1 : 0;

/** Whether both do the same: parameters and operations, as each side counts its own. */
function sameWork([mine, ...others]) {
  if (mine.facts.flops === undefined) return "not counted";
  const wrong = others.flatMap(({ name, facts }) =>
    ["parameters", "flops"]
      .filter((what) => facts[what] !== mine.facts[what])
      .map((what) => `${name} has ${short(facts[what] / mine.facts[what])} times as many ${what}`),
  );
  return wrong.length === 0 ? "yes" : [...new Set(wrong)].join("; ");
}

async function report(row, title, per, sides) {
  const [mine, ...others] = sides;
  const { ratio, best, ofBestTimes } = compared(mine, others, (side) => side.spread(clock));
  const byTurns = ratiosByTurns(mine.turns[clock], best.turns[clock]);
  const memory = ({ facts }) => facts.memory.rss - facts.memory.rssBefore;
  const result = {
    row: row.name,
    title,
    clock,
    ...machine(),
    python: best.facts.torch,
    seconds: Object.fromEntries(sides.map((side) => [side.name, { wall: side.spread("wall"), cpu: side.spread("cpu") }])),
    ratio,
    ofBestTimes,
    byTurns,
    turns,
    repeats,
    goal: row.goal,
    sameWork: sameWork(sides),
    memory: memory(mine) / memory(best),
    flops: mine.facts.flops,
    share: mine.facts.rate ? mine.facts.flops / mine.spread(clock).least / mine.facts.rate[clock] : undefined,
  };
  const { load } = result;
  const middle = (side) => side.spread(clock).median;
  const rate = `${short(per / middle(mine))} ${row.unit}/s`;
  const theirs = `${short(per / middle(best))} (${best.name.replace("PyTorch ", "")})`;
  const share = result.share === undefined ? "" : `${(100 * result.share).toFixed(0)} %`;
  const when = `${new Date().toISOString().slice(0, 10)}, ${processor}, ${threads} threads, load ${load}, turns ${turns} x ${repeats}, PyTorch ${python.torch}`;
  const goal = `${row.goal.floor} to ${row.goal.aim}`;
  const range = `turns ${byTurns.least.toFixed(2)} to ${byTurns.most.toFixed(2)}, best times ${ofBestTimes.toFixed(2)}`;
  if (values.json) process.stdout.write(`${JSON.stringify(result)}\n`);
  else {
    const each = others.map((side) => `${side.name} ${short(middle(side))} s`).join(", ");
    process.stdout.write(
      `${title}: ratio ${ratio.toFixed(2)} (${clock}; ${range}; floor and aim ${goal}); Tessera ${short(middle(mine))} s, ${each}; ` +
        `memory ${result.memory.toFixed(2)}; same work: ${result.sameWork}\n`,
    );
  }
  if (values.write) {
    const cells = [
      title,
      rate,
      theirs,
      `${ratio.toFixed(2)} (${range})`,
      goal,
      result.sameWork,
      share,
      result.memory.toFixed(2),
      clock,
      when,
    ];
    const written = withRows(readFileSync(page, "utf8"), [cells]);
    replaceText(page, written);
    await writePng(picture, pictureOf(written));
  }
}
