// A folder of JPEG photographs that nobody took: coloured noise of many sizes, about as hard to decode as real ones.
import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";

/** Noise of one size, enlarged smoothly to the image's. */
async function octave(cells, width, height, rng) {
  const size = { width: cells, height: Math.max(2, Math.round((cells * height) / width)), channels: 3 };
  const bytes = Buffer.alloc(size.width * size.height * 3);
  for (let i = 0; i < bytes.length; i++) bytes[i] = rng() * 256;
  return sharp(bytes, { raw: size }).resize(width, height, { fit: "fill", kernel: "cubic" }).raw().toBuffer();
}

function generator(seed) {
  let state = seed * 2654435761 + 1;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

async function photograph(seed, width, height) {
  const rng = generator(seed);
  const parts = [
    [4, 0.5],
    [16, 0.2],
    [64, 0.1],
    [200, 0.05],
    [500, 0.15],
  ];
  const sum = new Float32Array(width * height * 3);
  for (const [cells, share] of parts) {
    const layer = await octave(cells, width, height, rng);
    for (let i = 0; i < sum.length; i++) sum[i] += share * layer[i];
  }
  return sharp(Buffer.from(Uint8Array.from(sum)), { raw: { width, height, channels: 3 } }).jpeg({ quality: 90 });
}

/** The folder, made once and kept for the next run: `count` images of 500 x 375 pixels, as ImageNet's are. */
export async function jpegFolder(count, width = 500, height = 375) {
  const folder = join(tmpdir(), `tessera-bench-jpegs-${count}-${width}x${height}`);
  if (existsSync(folder)) return folder;
  const made = `${folder}.${process.pid}.tmp`;
  mkdirSync(made, { recursive: true });
  for (let i = 0; i < count; i++)
    await (await photograph(i, width, height)).toFile(join(made, `${String(i).padStart(4, "0")}.jpg`));
  try {
    renameSync(made, folder);
  } catch (error) {
    rmSync(made, { recursive: true, force: true });
    if (!existsSync(folder)) throw error; // else another process was faster
  }
  return folder;
}
