// The rows of the comparison: what each side runs, and what is hoped for. `floor` and `aim` are ratios of speed, ours over PyTorch's best.
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { methodNames, setupFor } from "./_setups.mjs";

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const ours = (name, ...args) => [process.execPath, here(`${name}.mjs`), ...args, "--serve"];

/** A step. `batch` is another one than the row's where a machine is slow. */
function stepRow(method, model, dtype, usual, goal) {
  return {
    name: `step/${method}/${model}/${dtype}`,
    goal,
    unit: "images",
    sides({ python, threads, peers, form, batch = usual, warmup }) {
      const settings = join(mkdtempSync(join(tmpdir(), "tessera-bench-")), "recipe.json");
      writeFileSync(settings, JSON.stringify(setupFor({ method, model, batch, dtype })));
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
        peers: Object.fromEntries(peers.map((each) => [each, [...peer, "--warmup", String(warmup), ...variant[each]]])),
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
