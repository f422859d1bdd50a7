// Self-attention forward and backward: matmul, softmax, matmul against libtorch's fused operator, in float32 and under bfloat16 autocast.
//
//   node bench/attention.mjs [--repeats 7]
import { parseArgs } from "node:util";
import { Attention } from "../dist/nn/index.js";
import { autocast, getNumThreads, hasFusedAttention, manualSeed, randn, tidy, versionInfo } from "../dist/torch/index.js";

const repeats = Number(parseArgs({ options: { repeats: { type: "string", default: "7" } } }).values.repeats);
const { torch, cpuCapability } = versionInfo();
console.log(`libtorch ${torch}, ${cpuCapability}, ${getNumThreads()} threads; milliseconds, min and median of ${repeats}`);
if (!hasFusedAttention()) {
  console.log("this libtorch has no fused attention");
  process.exit(0);
}

manualSeed(0);
const shapes = [
  { batch: 16, tokens: 197, width: 384, heads: 6 },
  { batch: 128, tokens: 50, width: 96, heads: 3 },
  { batch: 128, tokens: 17, width: 96, heads: 3 },
];
for (const { batch, tokens, width, heads } of shapes) {
  const x = randn([batch, tokens, width]);
  for (const precision of ["float32", "bfloat16"]) {
    const forms = {
      explicit: new Attention(width, { heads, fused: false }),
      fused: new Attention(width, { heads, fused: true }),
    };
    const times = { explicit: [], fused: [] };
    // In turns, so that a noisy neighbour disturbs both.
    for (let i = 0; i <= repeats; i++) {
      for (const [name, attention] of Object.entries(forms)) {
        const start = performance.now();
        tidy(() => {
          const forward = () => attention.call(x).float().sum();
          (precision === "bfloat16" ? autocast({}, forward) : forward()).backward();
          attention.zeroGrad();
        });
        if (i > 0) times[name].push(performance.now() - start);
      }
    }
    const text = (name) => {
      const sorted = times[name].sort((a, b) => a - b);
      return `${name} ${sorted[0].toFixed(1)} / ${sorted[repeats >> 1].toFixed(1)}`;
    };
    console.log(`[${batch}, ${tokens}, ${width}] ${heads} heads ${precision.padEnd(8)}  ${text("explicit")}   ${text("fused")}`);
  }
}
