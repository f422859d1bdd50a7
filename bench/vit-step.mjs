// One training step of a ViT-S/16 (197 tokens, forward and backward): its time, and the share of it that is not spent inside libtorch.
//
//   node bench/vit-step.mjs [--batch 16] [--precision bfloat16] [--repeats 5]
//   PYTHON=/path/to/python node bench/vit-step.mjs      the same step in PyTorch eager beside it, taken in turns
import { execFileSync } from "node:child_process";
import { parseArgs } from "node:util";
import { VisionTransformer, vitSizes } from "../dist/models/index.js";
import { autocast, getNumThreads, manualSeed, randn, tidy, timeInside, versionInfo } from "../dist/torch/index.js";

const { values } = parseArgs({
  options: {
    batch: { type: "string", default: "16" },
    precision: { type: "string", default: "bfloat16" },
    repeats: { type: "string", default: "5" },
  },
});
const [batch, repeats] = [Number(values.batch), Number(values.repeats)];
const half = values.precision === "bfloat16";

manualSeed(0);
const vit = new VisionTransformer({ ...vitSizes.small, imageSize: 224, patchSize: 16 });
const images = randn([batch, 3, 224, 224]);

function step() {
  tidy(() => {
    const forward = () => vit.call(images).tokens.float().pow(2).mean();
    (half ? autocast({}, forward) : forward()).backward();
    vit.zeroGrad();
  });
}

// The same model by PyTorch's own layers; prints milliseconds of a step, one after each line it reads.
const program = `
import sys, time, torch, torch.nn as nn
torch.set_num_threads(${getNumThreads()})
class Attention(nn.Module):
    def __init__(s, c, h):
        super().__init__(); s.h = h; s.qkv = nn.Linear(c, 3 * c); s.proj = nn.Linear(c, c)
    def forward(s, x):
        b, n, c = x.shape
        q, k, v = s.qkv(x).reshape(b, n, 3, s.h, c // s.h).permute(2, 0, 3, 1, 4).unbind(0)
        a = ((q * (c // s.h) ** -0.5) @ k.transpose(-2, -1)).softmax(-1)
        return s.proj((a @ v).transpose(1, 2).reshape(b, n, c))
class Block(nn.Module):
    def __init__(s, c, h):
        super().__init__(); s.norm1 = nn.LayerNorm(c, 1e-6); s.attn = Attention(c, h); s.norm2 = nn.LayerNorm(c, 1e-6)
        s.mlp = nn.Sequential(nn.Linear(c, 4 * c), nn.GELU(), nn.Linear(4 * c, c))
    def forward(s, x):
        x = x + s.attn(s.norm1(x)); return x + s.mlp(s.norm2(x))
class Vit(nn.Module):
    def __init__(s, c=384, h=6, d=12):
        super().__init__(); s.proj = nn.Conv2d(3, c, 16, 16); s.cls = nn.Parameter(torch.zeros(1, 1, c))
        s.pos = nn.Parameter(torch.randn(1, 197, c) * .02); s.blocks = nn.Sequential(*[Block(c, h) for _ in range(d)]); s.norm = nn.LayerNorm(c, 1e-6)
    def forward(s, x):
        x = s.proj(x).flatten(2).transpose(1, 2); x = torch.cat([s.cls.expand(len(x), -1, -1), x], 1) + s.pos
        return s.norm(s.blocks(x))
m = Vit(); x = torch.randn(${batch}, 3, 224, 224)
def step():
    with torch.autocast("cpu", torch.bfloat16, enabled=${half ? "True" : "False"}):
        loss = m(x).float().pow(2).mean()
    loss.backward(); m.zero_grad(set_to_none=True)
step()
times = []
for _ in range(${repeats}):
    t = time.perf_counter(); step(); times.append((time.perf_counter() - t) * 1000)
print(torch.__version__, " ".join(f"{t:.1f}" for t in times))
`;

const spread = (times) => {
  const sorted = [...times].sort((a, b) => a - b);
  const at = (share) => sorted[Math.floor(share * (sorted.length - 1))].toFixed(0);
  return `min ${at(0)}  median ${at(0.5)}  max ${at(1)} ms`;
};

function measure() {
  const times = [];
  const outside = [];
  for (let i = 0; i < repeats; i++) {
    const start = performance.now();
    const { milliseconds } = timeInside(step);
    const ms = performance.now() - start;
    times.push(ms);
    outside.push((100 * (ms - milliseconds)) / ms);
  }
  return { times, outside };
}

const { torch, cpuCapability } = versionInfo();
console.log(`libtorch ${torch}, ${cpuCapability}, ${getNumThreads()} threads, batch ${batch}, ${values.precision}`);
step();
const rounds = [];
for (let round = 0; round < (process.env.PYTHON ? 2 : 1); round++) {
  const { times, outside } = measure();
  rounds.push(Math.min(...times));
  console.log(
    `tessera          ${spread(times)}   outside libtorch ${Math.min(...outside).toFixed(2)} % (min), ${outside.sort((a, b) => a - b)[repeats >> 1].toFixed(2)} % (median)`,
  );
  if (!process.env.PYTHON) continue;
  const [version, ...python] = execFileSync(process.env.PYTHON, ["-c", program], { encoding: "utf8" }).trim().split(" ");
  console.log(`PyTorch ${version.padEnd(8)} ${spread(python.map(Number))}`);
}
