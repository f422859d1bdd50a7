// Pictures as PNG files.
import { mkdir, open, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import sharp from "sharp";
import { DrawError } from "./errors.js";
import type { Picture, RgbImage } from "./image.js";

function check({ width, height, data }: RgbImage): void {
  if (data.length !== width * height * 3) {
    throw new DrawError(`An RGB image of ${width} x ${height} pixels has ${data.length} bytes; expected ${width * height * 3}.`);
  }
}

/** The bytes of a PNG file. */
export async function encodePng(image: RgbImage): Promise<Uint8Array> {
  check(image);
  const raw = { width: image.width, height: image.height, channels: 3 as const };
  return sharp(image.data, { raw, limitInputPixels: false }).png({ compressionLevel: 9 }).toBuffer();
}

let written = 0;

/** Writes a PNG file; whoever reads the path sees the old file or the whole new one. Makes the folder where there is none. */
export async function writePng(path: string, image: RgbImage): Promise<void> {
  const bytes = await encodePng(image);
  const temporary = `${path}.${process.pid}-${written++}.tmp`;
  try {
    await mkdir(dirname(path), { recursive: true });
    const file = await open(temporary, "w");
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => {});
    throw new DrawError(`The picture ${path} could not be written: ${(cause as Error).message}`, { cause });
  }
}

/** Writes pictures as `folder/NAME.png`; returns the paths. A name may have letters, digits, dots, hyphens and underscores. */
export async function writePictures(folder: string, pictures: readonly Picture[]): Promise<string[]> {
  for (const { name } of pictures) {
    if (!/^[\w-][\w.-]*$/.test(name)) {
      throw new DrawError(`A picture cannot be called "${name}"; expected letters, digits, dots, hyphens and underscores.`);
    }
  }
  const paths = pictures.map(({ name }) => join(folder, `${name}.png`));
  if (new Set(paths).size < paths.length) {
    throw new DrawError(`Two pictures have the same name: ${pictures.map(({ name }) => name).join(", ")}.`);
  }
  await Promise.all(pictures.map(({ image }, i) => writePng(paths[i]!, image)));
  return paths;
}
