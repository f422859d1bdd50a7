// COCO's box and mask AP of made-up results for as many images as val2017 has: the time it takes, and with a Python that has pycocotools its time beside it.
//
//   node bench/coco-ap.mjs [--images 5000] [--categories 80] [--objects 7] [--found 60]
//   PYTHON=/path/to/python node bench/coco-ap.mjs      pycocotools on the same files; the numbers are compared
//
// 5,000 images, 34,887 objects, 300,000 results, seconds of one processor core (libtorch is not used; pycocotools 2.0.11, numpy):
//
//                reading   box AP   mask AP
//   tessera          2.0      1.6       4.3
//   pycocotools      2.4     35.6      42.0      the 24 numbers differ by at most 3.3e-16
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { packCounts, polygonMask, Rng, readCocoTruth } from "../dist/data/index.js";
import { evaluateCoco, readCocoResults } from "../dist/evaluate/index.js";

const { values } = parseArgs({
  options: {
    images: { type: "string", default: "5000" },
    categories: { type: "string", default: "80" },
    objects: { type: "string", default: "7" },
    found: { type: "string", default: "60" },
    seed: { type: "string", default: "0" },
    keep: { type: "string" },
  },
});
const count = Object.fromEntries(Object.entries(values).map(([name, value]) => [name, Number(value)]));

/** An outline of `corners` points around a box, uneven by chance, as annotators draw. */
function outline(rng, [x, y, w, h], corners) {
  const points = [];
  for (let i = 0; i < corners; i++) {
    const angle = (2 * Math.PI * i) / corners;
    const radius = rng.uniform(0.7, 1);
    points.push(round(x + (w / 2) * (1 + radius * Math.cos(angle))), round(y + (h / 2) * (1 + radius * Math.sin(angle))));
  }
  return points;
}
const round = (value) => Math.round(value * 100) / 100;

/** Annotations and results: most results are true objects moved and resized a little, some of another category, some nothing at all. */
function make() {
  const rng = new Rng(count.seed);
  const truth = { images: [], annotations: [], categories: [] };
  for (let k = 0; k < count.categories; k++) truth.categories.push({ id: k + 1 + Math.floor(k / 9), name: `kind ${k}` });
  const results = [];
  for (let i = 0; i < count.images; i++) {
    const [width, height] = rng.chance(0.7) ? [640, 427 + rng.intBelow(60)] : [427 + rng.intBelow(60), 640];
    const id = 1000 + ((i * 7919) % 1000003);
    truth.images.push({ id, file_name: `${id}.jpg`, width, height });
    const category = () => truth.categories[Math.floor(count.categories * rng.uniform() ** 2)].id;
    const boxes = [];
    const objects = rng.chance(0.01) ? 0 : rng.intBelow(2 * count.objects + 1);
    for (let o = 0; o < objects; o++) {
      const side = 8 * 2 ** rng.uniform(0, 5.5);
      const [w, h] = [Math.min(side * rng.uniform(0.5, 1.5), width - 1), Math.min(side, height - 1)].map(round);
      const box = [rng.uniform(0, width - w), rng.uniform(0, height - h), w, h].map(round);
      const crowd = rng.chance(0.02);
      const own = category();
      const polygon = outline(rng, box, 12 + rng.intBelow(30));
      const mask = polygonMask(polygon, [height, width]);
      const area = round(w * h * rng.uniform(0.5, 0.8));
      truth.annotations.push({
        id: truth.annotations.length + 1,
        image_id: id,
        category_id: own,
        bbox: box,
        area,
        iscrowd: Number(crowd),
        segmentation: crowd ? { size: [height, width], counts: [...mask.counts] } : [polygon],
      });
      boxes.push({ box, own });
    }
    for (let d = 0; d < count.found; d++) {
      const of = boxes.length > 0 && rng.chance(0.6) ? boxes[rng.intBelow(boxes.length)] : undefined;
      const spread = rng.uniform(0, 0.5);
      const near = ([x, y, w, h]) => [x + w * spread * rng.uniform(-0.5, 0.5), y + h * spread * rng.uniform(-0.5, 0.5), w, h];
      const [x, y, w, h] = of
        ? near(of.box)
        : [rng.uniform(0, width * 0.8), rng.uniform(0, height * 0.8), rng.uniform(4, width * 0.2), rng.uniform(4, height * 0.2)];
      const box = [Math.max(0, x), Math.max(0, y), w, h].map(round);
      const mask = polygonMask(outline(rng, box, 24), [height, width]);
      results.push({
        image_id: id,
        category_id: of && rng.chance(0.8) ? of.own : category(),
        bbox: box,
        score: Math.round(1000 * rng.uniform() * (of ? 1 - spread : 0.6)) / 1000,
        segmentation: { size: [height, width], counts: packCounts(mask.counts) },
      });
    }
  }
  return { truth, results };
}

const program = `
import contextlib, io, json, sys, time
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
truth, results = sys.argv[1:]
with contextlib.redirect_stdout(io.StringIO()):
    now = lambda: (time.time(), time.process_time())
    since = lambda start: [b - a for a, b in zip(start, now())]
    start = now(); coco = COCO(truth); found = json.load(open(results)); seconds = {"reading": since(start)}; stats = {}
    for kind, name in (("box", "bbox"), ("mask", "segm")):
        start = now()
        if kind == "mask":
            for each in found: del each["bbox"]
        judge = COCOeval(coco, coco.loadRes(found), name)
        judge.evaluate(); judge.accumulate(); judge.summarize()
        seconds[kind] = since(start)
        stats[kind] = list(judge.stats)
print(json.dumps({"seconds": seconds, "stats": stats}))
`;

const folder = values.keep ?? mkdtempSync(join(tmpdir(), "tessera-coco-ap-"));
try {
  const { truth, results } = make();
  const [truthFile, resultsFile] = [join(folder, "truth.json"), join(folder, "results.json")];
  writeFileSync(truthFile, JSON.stringify(truth));
  writeFileSync(resultsFile, `[${results.map((each) => JSON.stringify(each)).join(",\n")}]`);
  console.log(
    `${count.images} images, ${truth.annotations.length} objects, ${results.length} results, ${count.categories} categories`,
  );

  const seconds = {};
  const timed = async (name, work) => {
    const [start, used] = [performance.now(), process.cpuUsage()];
    const result = await work();
    const { user, system } = process.cpuUsage(used);
    seconds[name] = [(performance.now() - start) / 1000, (user + system) / 1e6];
    return result;
  };
  const [data, found] = await timed("reading", async () => {
    const data = await readCocoTruth(truthFile);
    return [data, await readCocoResults(resultsFile, data)];
  });
  const own = {};
  for (const kind of ["box", "mask"]) own[kind] = await timed(kind, () => evaluateCoco(data, found, kind));
  for (const kind of ["box", "mask"]) {
    const shown = Object.entries(own[kind].scores).map(([name, value]) => `${name} ${value.toFixed(4)}`);
    console.log(`${kind.padEnd(5)} ${shown.join("  ")}`);
  }
  const told = (times) => Object.entries(times).map(([name, [wall, cpu]]) => `${name} ${wall.toFixed(1)} s (${cpu.toFixed(1)})`);
  console.log("seconds, in brackets those of the processor:");
  console.log(`tessera:     ${told(seconds).join(", ")}`);

  const { status, stdout, stderr } = spawnSync(process.env.PYTHON ?? "python3", ["-c", program, truthFile, resultsFile], {
    encoding: "utf8",
    maxBuffer: 1 << 26,
  });
  if (status !== 0) console.log(`pycocotools: not compared (${stderr.trim().split("\n").at(-1)}); set PYTHON`);
  else {
    const other = JSON.parse(stdout);
    console.log(`pycocotools: ${told(other.seconds).join(", ")}`);
    const differences = ["box", "mask"].flatMap((kind) =>
      Object.values(own[kind].scores).map((value, i) => Math.abs(value - other.stats[kind][i])),
    );
    console.log(`the ${differences.length} numbers differ by at most ${Math.max(...differences).toExponential(1)}`);
  }
} finally {
  if (values.keep === undefined) rmSync(folder, { recursive: true });
}
