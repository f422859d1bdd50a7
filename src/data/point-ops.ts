// Operations on planar 8-bit crops by table or by neighbourhood, in place, with the arithmetic of PIL's ImageOps and ImageEnhance: those that
// RandAugment has beyond color.ts.

const table = new Uint8Array(256);
const counts = new Uint32Array(256);

function count(data: Uint8Array, at: number, plane: number): void {
  counts.fill(0);
  for (let i = at; i < at + plane; i++) counts[data[i]!]!++;
}

function look(data: Uint8Array, at: number, length: number): void {
  for (let i = at; i < at + length; i++) data[i] = table[data[i]!]!;
}

/** Stretches each channel so that its darkest value becomes 0 and its brightest 255. */
export function autoContrast(data: Uint8Array, at: number, plane: number, channels: number): void {
  for (let c = 0; c < channels; c++) {
    count(data, at + c * plane, plane);
    let low = 0;
    while (counts[low] === 0) low++;
    let high = 255;
    while (counts[high] === 0) high--;
    if (high <= low) continue;
    const scale = 255 / (high - low);
    const offset = -low * scale;
    for (let i = 0; i < 256; i++) table[i] = Math.min(255, Math.max(0, Math.trunc(i * scale + offset)));
    look(data, at + c * plane, plane);
  }
}

/** Makes the histogram of each channel as even as a table can. */
export function equalise(data: Uint8Array, at: number, plane: number, channels: number): void {
  for (let c = 0; c < channels; c++) {
    count(data, at + c * plane, plane);
    let last = 255;
    while (counts[last] === 0) last--;
    const step = Math.floor((plane - counts[last]!) / 255);
    if (step === 0) continue;
    let n = Math.floor(step / 2);
    for (let i = 0; i < 256; i++) {
      table[i] = Math.min(255, Math.floor(n / step));
      n += counts[i]!;
    }
    look(data, at + c * plane, plane);
  }
}

/** 255 less each value. */
export function invert(data: Uint8Array, at: number, plane: number, channels: number): void {
  for (let i = at; i < at + plane * channels; i++) data[i] = 255 - data[i]!;
}

/** Keeps the highest `bits` bits of each value, 0 (black) to 8 (all). */
export function posterise(data: Uint8Array, at: number, plane: number, channels: number, bits: number): void {
  const mask = bits >= 8 ? 255 : 255 & ~(2 ** (8 - bits) - 1);
  for (let i = at; i < at + plane * channels; i++) data[i] = data[i]! & mask;
}

/** Adds to values below 128. */
export function solariseAdd(data: Uint8Array, at: number, plane: number, channels: number, add: number): void {
  for (let i = 0; i < 256; i++) table[i] = i < 128 ? Math.min(255, i + add) : i;
  look(data, at, plane * channels);
}

let smooth = new Uint8Array(0);

/** Blends with a smoothed copy (3 x 3, the middle five times as heavy; pixels at the edge as they are); factors above 1 sharpen. */
export function sharpness(data: Uint8Array, at: number, height: number, width: number, channels: number, factor: number): void {
  const plane = height * width;
  if (smooth.length < plane) smooth = new Uint8Array(plane);
  const f = Math.fround(factor);
  for (let c = 0; c < channels; c++) {
    const from = at + c * plane;
    smooth.set(data.subarray(from, from + plane));
    for (let y = 1; y < height - 1; y++) {
      for (let x = 1; x < width - 1; x++) {
        const i = from + y * width + x;
        let sum = 4 * data[i]!;
        for (let row = i - width; row <= i + width; row += width) sum += data[row - 1]! + data[row]! + data[row + 1]!;
        smooth[i - from] = Math.floor((2 * sum + 13) / 26);
      }
    }
    for (let i = 0; i < plane; i++) {
      const blurred = smooth[i]!;
      const value = Math.fround(blurred + Math.fround(f * (data[from + i]! - blurred)));
      data[from + i] = value <= 0 ? 0 : value >= 255 ? 255 : Math.trunc(value);
    }
  }
}
