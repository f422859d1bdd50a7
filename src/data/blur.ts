// Gaussian blur of planar 8-bit crops. PIL's GaussianBlur(radius) approximates a Gaussian of standard deviation `radius` by three box
// blurs; this is the Gaussian itself (cut at three standard deviations, edge pixels repeated as PIL does), separable, in fixed point
// with 16 bits kept between the two passes.

const WEIGHT_BITS = 15;
let padded = new Int32Array(0);
let between = new Uint16Array(0);
let weights = new Int32Array(0);

/** Half of the symmetric kernel in units of 2^-15, summing to exactly 2^15 with its mirror image. Returns the radius. */
function kernel(sigma: number): number {
  const radius = Math.max(1, Math.ceil(3 * sigma));
  if (weights.length <= radius) weights = new Int32Array(radius + 1);
  let sum = 0;
  for (let k = -radius; k <= radius; k++) sum += Math.exp((-k * k) / (2 * sigma * sigma));
  let rest = 1 << WEIGHT_BITS;
  for (let k = radius; k > 0; k--) {
    weights[k] = Math.round((Math.exp((-k * k) / (2 * sigma * sigma)) / sum) * (1 << WEIGHT_BITS));
    rest -= 2 * weights[k]!;
  }
  weights[0] = rest;
  let used = radius;
  while (used > 0 && weights[used] === 0) used--;
  return used;
}

/** Blurs `channels` planes of height x width at `at`, in place. `sigma` is in pixels. */
export function gaussianBlur(data: Uint8Array, at: number, height: number, width: number, channels: number, sigma: number): void {
  const radius = kernel(sigma);
  if (radius === 0) return;
  if (padded.length < width + 2 * radius) padded = new Int32Array(width + 2 * radius);
  if (between.length < height * width) between = new Uint16Array(height * width);
  for (let c = 0; c < channels; c++) {
    const plane = at + c * height * width;
    for (let y = 0; y < height; y++) blurRow(data, plane + y * width, y * width, width, radius);
    for (let y = 0; y < height; y++) blurColumn(data, plane + y * width, y, height, width, radius);
  }
}

function blurRow(data: Uint8Array, from: number, to: number, width: number, radius: number): void {
  const row = padded;
  const w = weights;
  const out = between;
  const left = data[from]!;
  const right = data[from + width - 1]!;
  for (let x = 0; x < radius; x++) {
    row[x] = left;
    row[radius + width + x] = right;
  }
  for (let x = 0; x < width; x++) row[radius + x] = data[from + x]!;
  const w0 = w[0]!;
  for (let x = 0; x < width; x++) {
    const center = x + radius;
    let sum = Math.imul(row[center]!, w0) + 64;
    for (let k = 1; k <= radius; k++) sum = (sum + Math.imul((row[center - k]! + row[center + k]!) | 0, w[k]!)) | 0;
    out[to + x] = sum >> 7;
  }
}

function blurColumn(data: Uint8Array, to: number, y: number, height: number, width: number, radius: number): void {
  const sums = padded;
  const source = between;
  const w = weights;
  const center = y * width;
  const w0 = w[0]!;
  for (let x = 0; x < width; x++) sums[x] = (Math.imul(source[center + x]!, w0) + (1 << 22)) | 0;
  let k = 1;
  for (; k < radius; k += 2) {
    const a = Math.max(y - k, 0) * width;
    const b = Math.min(y + k, height - 1) * width;
    const c = Math.max(y - k - 1, 0) * width;
    const d = Math.min(y + k + 1, height - 1) * width;
    const wa = w[k]!;
    const wc = w[k + 1]!;
    for (let x = 0; x < width; x++) {
      const inner = Math.imul((source[a + x]! + source[b + x]!) | 0, wa);
      const outer = Math.imul((source[c + x]! + source[d + x]!) | 0, wc);
      sums[x] = (sums[x]! + ((inner + outer) | 0)) | 0;
    }
  }
  if (k <= radius) {
    const a = Math.max(y - k, 0) * width;
    const b = Math.min(y + k, height - 1) * width;
    const wa = w[k]!;
    for (let x = 0; x < width; x++) {
      sums[x] = (sums[x]! + Math.imul((source[a + x]! + source[b + x]!) | 0, wa)) | 0;
    }
  }
  for (let x = 0; x < width; x++) data[to + x] = sums[x]! >> 23;
}
