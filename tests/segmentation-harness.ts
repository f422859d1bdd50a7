// Small folders of images and masks, written as the usual tools write them.
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import sharp from "sharp";

/** A PNG of one number a pixel. */
export async function writeMask(path: string, [height, width]: readonly [number, number], labels: Uint8Array): Promise<void> {
  mkdirSync(dirname(path), { recursive: true });
  const made = sharp(labels, { raw: { width, height, channels: 1 } }).toColourspace("b-w");
  writeFileSync(path, await made.png().toBuffer());
}

export async function writeColours(path: string, [height, width]: readonly [number, number], rgb: Uint8Array): Promise<void> {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(
    path,
    await sharp(rgb, { raw: { width, height, channels: 3 } })
      .png()
      .toBuffer(),
  );
}

/** Numbers that look irregular. */
export const noise = (i: number): number => (((i + 1) * 48271) % 2147483647) % 1000;

export const shapeClasses = ["ground", "box", "disc"] as const;
const colours = [[60, 110, 70], [210, 60, 50], [60, 80, 220]] as const; // biome-ignore format: colours

/** An image of a box and a disc on a ground, each class with a colour of its own, and the classes of its pixels. */
export function shapes(number: number, height: number, width: number): { rgb: Uint8Array; labels: Uint8Array } {
  const labels = new Uint8Array(height * width);
  const rgb = new Uint8Array(3 * labels.length);
  const at = (k: number, below: number) => noise(number * 31 + k) % Math.max(1, Math.round(below));
  const [top, left, side] = [at(1, height / 2), at(2, width / 2), Math.round(height / 3)];
  const [cy, cx, radius] = [height / 2 + at(3, height / 3), width / 2 + at(4, width / 3), height / 5];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const i = y * width + x;
      if (y >= top && y < top + side && x >= left && x < left + side) labels[i] = 1;
      if ((y - cy) ** 2 + (x - cx) ** 2 < radius ** 2) labels[i] = 2;
      for (let c = 0; c < 3; c++) rgb[3 * i + c] = colours[labels[i]!]![c]! + (noise(i * 3 + c) % 20);
    }
  }
  return { rgb, labels };
}

/** `folder` as `segmentation:DIR` wants it: so many images of shapes in train/ and val/, and classes.txt. */
export async function writeShapes(folder: string, { train = 4, val = 2, height = 32, width = 48 } = {}): Promise<void> {
  for (const [split, count, first] of [["train", train, 0] as const, ["val", val, 100] as const]) {
    for (let i = 0; i < count; i++) {
      const { rgb, labels } = shapes(first + i, height, width);
      await writeColours(join(folder, "images", split, `${i}.png`), [height, width], rgb);
      await writeMask(join(folder, "masks", split, `${i}.png`), [height, width], labels);
    }
  }
  writeFileSync(join(folder, "classes.txt"), `${shapeClasses.join("\n")}\n`);
}
