// Each fused operator beside the operators it stands for, forward and backward, in turns: milliseconds, the ratio of the best times, and what the
// forward pass leaves in memory for the backward pass, its outputs among it.
//
//   npx tessera bench fused [--dtype fp32|bf16] [--repeats 7]
//
// Shapes are those of a ViT-S/16 with 32 global crops of 224 px, and of DINO's head. What a libtorch or processor lacks is left out.
// Where products of matrices are the library's own, those too, by shape and without gradients, in GFLOP/s.

import { dinoLoss } from "../dist/methods/index.js";
import { VisionTransformer } from "../dist/models/index.js";
import { Attention } from "../dist/nn/index.js";
import {
  addNorm,
  allocatorStats,
  autocast,
  backward,
  biasGelu,
  fusesAttention,
  geluLinear,
  hasOwnProducts,
  linear,
  manualSeed,
  randn,
  tidy,
  weightNorm,
  withFused,
} from "../dist/torch/index.js";
import { oneOf, readFlags, wholeNumber } from "./_flags.mjs";
import { machine, spread, table } from "./_stats.mjs";

const help = `Usage: tessera bench fused [options]

  --dtype D        fp32 or bf16 (default bf16)
  --repeats N      of each form (default 7)
`;
const values = readFlags(help, { dtype: { type: "string", default: "bf16" }, repeats: { type: "string", default: "7" } });
const half = oneOf("dtype", values.dtype, ["fp32", "bf16"]) === "bf16";
const repeats = wholeNumber("repeats", values.repeats);

manualSeed(0);
const [batch, tokens, width, heads] = [32, 197, 384, 6];
const leaves = [];
const leaf = (shape, rounded = half) => {
  const x = rounded ? randn(shape).to("bfloat16") : randn(shape);
  x.requiresGrad = true;
  leaves.push(x);
  return x;
};
const x = leaf([batch, tokens, width], false);
const branch = leaf([batch, tokens, width]);
const normed = leaf([batch, tokens, width]);
const hidden = leaf([batch, tokens, 4 * width]);
const [weight, shift, bias, wide] = [leaf([width], false), leaf([width], false), leaf([width], false), leaf([4 * width], false)];
const [matrix, narrowing] = [leaf([4 * width, width], false), leaf([width, 4 * width], false)];
const attention = new Attention(width, { heads });
const embed = new VisionTransformer({ depth: 1 }).patchEmbed;
const images = randn([batch, 3, 224, 224]);
const [directions, lengths] = [leaf([65536, 256], false), leaf([65536, 1], false)];
const logits = leaf([10, 16, 65536]);
const distributions = randn([2, 16, 65536]).softmax(-1);

const forms = {
  "residual sum and norm": () => {
    const { sum, normed: out } = addNorm(x, { x: branch, bias }, { weight, bias: shift, eps: 1e-6 });
    return [sum, half ? out.to("bfloat16") : out];
  },
  "bias and GELU": () => [biasGelu(hidden, wide)],
  "bias, GELU and linear, 1536 to 384": () => [geluLinear(hidden, wide, narrowing, null)],
  "linear, 384 to 1536": () => [linear(normed, matrix)],
  "attention with its projections": () => [attention.call(normed)],
  "patch embedding": () => [embed.call(images)],
  "65,536 rows of length 1": () => {
    const out = weightNorm(directions, lengths);
    return [half ? out.to("bfloat16") : out];
  },
  "their cross-entropies, 10 views": () => [dinoLoss(logits, distributions, 0.1)],
};

const measure = (fused, run) => {
  const start = performance.now();
  const before = allocatorStats().bytesInUse;
  let kept = 0;
  withFused(fused, () =>
    tidy(() => {
      const outputs = tidy(() => (half ? autocast({}, run) : run()));
      kept = allocatorStats().bytesInUse - before;
      backward(outputs, { gradients: outputs.map((each) => each.detach()) });
    }),
  );
  for (const each of leaves) each.grad = null;
  attention.zeroGrad();
  embed.zeroGrad();
  return { ms: performance.now() - start, kept };
};

const { cpu, threads, torch } = machine();
console.log(
  `libtorch ${torch}, ${threads} threads, ${cpu}; ${values.dtype}, [${batch}, ${tokens}, ${width}], forward and backward`,
);
/** What `run` measures of both forms in turns; the first turn is not counted. */
const inTurns = (turns, run) => {
  const times = { plain: [], fused: [] };
  for (let i = 0; i <= turns; i++) {
    const each = { plain: run(false), fused: run(true) };
    if (i > 0) for (const form of ["plain", "fused"]) times[form].push(each[form]);
  }
  return times;
};
const rows = Object.entries(forms).map(([name, run]) => {
  const measured = inTurns(repeats, (fused) => measure(fused, run));
  const [plain, fused] = [measured.plain, measured.fused].map((each) => spread(each.map(({ ms }) => ms)).least);
  const [kept, keptFused] = [measured.plain, measured.fused].map(([first]) => `${(first.kept / 2 ** 20).toFixed(0)} MiB`);
  return [name, `${plain.toFixed(1)} ms`, `${fused.toFixed(1)} ms`, (plain / fused).toFixed(2), kept, keptFused];
});
console.log(table([["", "plain", "fused", "ratio", "keeps", "fused keeps"], ...rows]));
if (half && !autocast({}, () => fusesAttention(normed, normed, undefined))) {
  console.log("this libtorch or processor has no matrix micro-kernel: attention and linear layers are plain in both columns");
}

/** x [rows, from] W^T [to, from] by rows, from and to: those of the ViT-S/16 above, and of the small ViT for 32 px with 128 images. */
const products = [
  [6304, 384, 1152],
  [6304, 384, 384],
  [6304, 384, 1536],
  [6304, 1536, 384],
  [8320, 192, 768],
  [8320, 768, 192],
];
const dtype = half ? "bfloat16" : "float32";
if (hasOwnProducts(dtype)) {
  const speeds = products.map(([m, from, to]) => {
    const [left, right] = [randn([m, from]).to(dtype), randn([to, from]).to(dtype).t()];
    const times = inTurns(10 * repeats, (fused) => {
      const start = performance.now();
      withFused(fused, () => tidy(() => void left.matmul(right)));
      return performance.now() - start;
    });
    const [plain, own] = ["plain", "fused"].map((form) => (2 * m * from * to) / spread(times[form]).median / 1e6);
    return [`${m} x ${from} x ${to}`, plain.toFixed(0), own.toFixed(0), (own / plain).toFixed(2)];
  });
  console.log(`\n${table([["product, GFLOP/s", "libtorch", "own", "ratio"], ...speeds])}`);
}
