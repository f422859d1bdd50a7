import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import { afterAll, describe, expect, it } from "vitest";
import { blank, DrawError, encodePng, fillRect, writePictures, writePng } from "./index.js";

const folder = mkdtempSync(join(tmpdir(), "tessera-draw-"));
afterAll(() => rmSync(folder, { recursive: true }));

const image = blank(5, 3, [1, 2, 3]);
fillRect(image, 2, 1, 1, 1, [250, 128, 7]);

describe("PNG files", () => {
  it("hold the very pixels", async () => {
    const { data, info } = await sharp(await encodePng(image))
      .raw()
      .toBuffer({ resolveWithObject: true });
    expect(info).toMatchObject({ width: 5, height: 3, channels: 3, format: "raw" });
    expect([...data]).toEqual([...image.data]);
  });

  it("are written whole under their names, over older ones, with nothing left beside them", async () => {
    const inside = join(folder, "images", "step-10");
    const paths = await writePictures(inside, [
      { name: "attention", image },
      { name: "restored.1", image },
    ]);
    expect(paths).toEqual([join(inside, "attention.png"), join(inside, "restored.1.png")]);
    await Promise.all([writePng(paths[0]!, blank(2, 2)), writePng(paths[0]!, blank(3, 3))]);
    expect(readdirSync(inside).sort()).toEqual(["attention.png", "restored.1.png"]);
    expect([2, 3]).toContain((await sharp(readFileSync(paths[0]!)).metadata()).width);
  });

  it("say what is wrong", async () => {
    const file = join(folder, "file");
    writeFileSync(file, "");
    await expect(writePng(join(file, "a.png"), image)).rejects.toThrow(/^The picture .*a\.png could not be written: /);
    await expect(writePng(join(file, "a.png"), image)).rejects.toBeInstanceOf(DrawError);
    await expect(encodePng({ ...image, width: 6 })).rejects.toThrow("An RGB image of 6 x 3 pixels has 45 bytes; expected 54.");
    await expect(writePictures(folder, [{ name: "../a", image }])).rejects.toThrow(/^A picture cannot be called "\.\.\/a"/);
    const twice = [
      { name: "a", image },
      { name: "a", image },
    ];
    await expect(writePictures(folder, twice)).rejects.toThrow("Two pictures have the same name: a, a.");
    expect(readdirSync(folder).sort()).toEqual(["file", "images"]);
  });
});
