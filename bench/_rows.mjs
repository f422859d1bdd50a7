// The rows of the comparison: what each side runs, and what is hoped for. `floor` and `aim` are ratios of speed, ours over PyTorch's best.
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { widensHalves } from "../dist/torch/index.js";
import { jpegFolder } from "./_jpegs.mjs";
import { methodNames, setupFor } from "./_setups.mjs";

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const ours = (name, ...args) => [process.execPath, here(`${name}.mjs`), ...args, "--serve"];

/** Where libtorch multiplies bfloat16 number by number, PyTorch's best is float32. */
const slowInHalf = widensHalves();

/** A step. `batch` is another one than the row's where a machine is slow. */
function stepRow(method, model, dtype, usual, goal) {
  return {
    name: `step/${method}/${model}/${dtype}`,
    goal,
    unit: "images",
    sides({ python, threads, peers, form, batch = usual, warmup }) {
      const settings = join(mkdtempSync(join(tmpdir(), "tessera-bench-")), "recipe.json");
      const wide = dtype === "bf16" && slowInHalf;
      writeFileSync(settings, JSON.stringify(setupFor({ method, model, batch, dtype: wide ? "fp32" : dtype })));
      const flags = [
        "--method",
        method,
        "--model",
        model,
        "--dtype",
        dtype,
        "--batch",
        String(batch),
        "--warmup",
        String(warmup),
      ];
      const variant = { eager: [], sdpa: ["--attention", "sdpa"], compile: ["--compile"] };
      const peer = [python, here("peer/step.py"), "--settings", settings, "--threads", String(threads), "--form", form];
      return {
        per: batch,
        title: `${name(method)} step, ${model}, batch ${batch}, ${dtype}`,
        ours: ours("step", ...flags),
        peers: Object.fromEntries(
          peers.map((each) => [wide ? `${each}, float32` : each, [...peer, "--warmup", String(warmup), ...variant[each]]]),
        ),
      };
    },
  };
}

/** Steps on images that the data path makes meanwhile. Each side by the number of workers that suits it: the library's choice, and PyTorch's best. */
function trainRow(method, views, model, dtype, usual, goal) {
  const step = stepRow(method, model, dtype, usual, goal);
  return {
    ...step,
    name: `train/${method}/${model}/${dtype}`,
    async sides(options) {
      const folder = await jpegFolder(256);
      const { title, ours: mine, peers, ...rest } = step.sides({ ...options, peers: ["eager"] });
      const from = ["--folder", folder, "--views", views, "--workers"];
      const [[eager, command]] = Object.entries(peers);
      const theirs = [1, options.threads].map((workers) => [
        eager.replace("eager", `${workers} workers`),
        [...command, ...from, String(workers)],
      ]);
      return {
        ...rest,
        title: `${title}, from JPEG`,
        ours: [...mine, "--data", `folder:${folder}`],
        peers: Object.fromEntries(theirs),
      };
    },
  };
}

/** A data path from JPEG, both sides with as many workers as there are cores. */
function dataRow(views, title, goal) {
  return {
    name: `data/${views}`,
    goal,
    unit: "images",
    async sides({ python, threads, images = 256 }) {
      const folder = await jpegFolder(256);
      const flags = ["--views", views, "--workers", String(threads), "--images", String(images), "--batch", "16"];
      const peer = [python, here("peer/data.py"), "--folder", folder, ...flags];
      return {
        per: images,
        title: `${title} from JPEG, ${threads} workers`,
        ours: ours("data", "--data", `folder:${folder}`, ...flags),
        peers: { tensor: [...peer, "--decode", "tensor"], pil: [...peer, "--decode", "pil"] },
      };
    },
  };
}

const name = (method) =>
  ({ dino: "DINO", "moco-v3": "MoCo v3", repre: "RePre", randsac: "RandSAC" })[method] ?? method.toUpperCase();

export const rows = [
  ...methodNames.map((method) => stepRow(method, "vit-s16", "bf16", 16, { floor: 1.25, aim: 1.7 })),
  ...methodNames.map((method) => stepRow(method, "vit-s16", "fp32", 16, { floor: 1.1, aim: 1.3 })),
  ...methodNames.map((method) => stepRow(method, "vit-small32", "bf16", 128, { floor: 1.3, aim: 2 })),
  dataRow("dino", "DINO crops, 2 x 224 + 8 x 96", { floor: 2, aim: 4 }),
  dataRow("mocov3", "MoCo v3 crops, 2 x 224", { floor: 2, aim: 4 }),
  dataRow("mae", "MAE crop, 224", { floor: 2, aim: 4 }),
  trainRow("dino", "dino", "vit-s16", "bf16", 16, { floor: 1.5, aim: 2.5 }),
  trainRow("mae", "mae", "vit-s16", "bf16", 16, { floor: 1.5, aim: 2.5 }),
  {
    name: "knn",
    goal: { floor: 1, aim: 1.5 },
    unit: "queries",
    sides: ({ python, threads }) => ({
      per: 10_000,
      title: "k-NN, 10,000 queries in 50,000 x 384, k 200",
      ours: ours("knn"),
      peers: { eager: [python, here("peer/knn.py"), "--threads", String(threads)] },
    }),
  },
];
