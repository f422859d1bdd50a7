// Datasets from files that the test writes: IDX, CIFAR, image folders, and every kind of bad or odd image file.
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { deflateSync, gzipSync } from "node:zlib";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  type Dataset,
  decodeFile,
  openDataset,
  type Pixels,
  parseSpec,
  registerDataset,
  subset,
  verifyDataset,
} from "../src/data/index.js";

let root = "";
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "tessera-data-"));
});
afterAll(() => rmSync(root, { recursive: true }));

function write(path: string, bytes: Uint8Array | string): string {
  const full = join(root, path);
  mkdirSync(dirname(full), { recursive: true });
  writeFileSync(full, bytes);
  return full;
}

function idx(shape: number[], data: number[]): Buffer {
  const header = Buffer.alloc(4 + 4 * shape.length);
  header[2] = 8;
  header[3] = shape.length;
  shape.forEach((n, i) => {
    header.writeUInt32BE(n, 4 + 4 * i);
  });
  return Buffer.concat([header, Buffer.from(data)]);
}

describe("fashion-mnist", () => {
  it("reads gzipped and plain IDX files", async () => {
    write("fm/train-images-idx3-ubyte.gz", gzipSync(idx([3, 2, 2], [...Array(12).keys()])));
    write("fm/train-labels-idx1-ubyte.gz", gzipSync(idx([3], [9, 0, 4])));
    write("fm/t10k-images-idx3-ubyte", idx([1, 2, 2], [1, 2, 3, 4]));
    write("fm/t10k-labels-idx1-ubyte", idx([1], [3]));
    const train = await openDataset(`fashion-mnist:${root}/fm`);
    expect([train.length, train.label(0), train.classes?.[9], train.channels]).toEqual([3, 9, "Ankle boot", 1]);
    expect(train.read(1)).toEqual({ width: 2, height: 2, channels: 1, data: Uint8Array.of(4, 5, 6, 7) });
    const test = await openDataset(`fashion-mnist:${root}/fm?split=test`);
    expect([test.length, test.label(0)]).toEqual([1, 3]);
  });

  it("refuses files that are missing, cut off, or something else", async () => {
    await expect(openDataset(`fashion-mnist:${root}/none`)).rejects.toThrow(/Install Debian's package dataset-fashion-mnist/);
    write("cut/train-images-idx3-ubyte", idx([1000000, 28, 28], [1, 2, 3]));
    await expect(openDataset(`fashion-mnist:${root}/cut`)).rejects.toThrow(/says it holds 1000000 x 28 x 28 bytes but has 3/);
    write("torn/train-images-idx3-ubyte.gz", gzipSync(idx([1, 2, 2], [1, 2, 3, 4])).subarray(0, 20));
    await expect(openDataset(`fashion-mnist:${root}/torn`)).rejects.toThrow(/cannot be read: unexpected end of file/);
    write("else/train-images-idx3-ubyte", "hello");
    await expect(openDataset(`fashion-mnist:${root}/else`)).rejects.toThrow(/not an IDX file/);
  });
});

describe("cifar", () => {
  const record = (labels: number[]): Buffer =>
    Buffer.concat([
      Buffer.from(labels),
      Buffer.alloc(1024, labels[0]! + 1),
      Buffer.alloc(1024, labels[0]! + 2),
      Buffer.alloc(1024, labels[0]! + 3),
    ]);

  it("reads CIFAR-10 from its folder or the one above", async () => {
    for (let i = 1; i <= 5; i++) write(`c/cifar-10-batches-bin/data_batch_${i}.bin`, Buffer.concat([record([i]), record([0])]));
    write("c/cifar-10-batches-bin/test_batch.bin", record([7]));
    write("c/cifar-10-batches-bin/batches.meta.txt", "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n");
    for (const folder of ["c", "c/cifar-10-batches-bin"]) {
      const train = await openDataset(`cifar10:${root}/${folder}`);
      expect([train.length, train.label(0), train.label(9), train.classes?.[1]]).toEqual([10, 1, 0, "automobile"]);
      const image = train.read(2) as Pixels;
      expect([image.width, image.height, image.channels, ...image.data.subarray(0, 6)]).toEqual([32, 32, 3, 3, 4, 5, 3, 4, 5]);
    }
    expect((await openDataset(`cifar10:${root}/c`, { split: "test" })).label(0)).toBe(7);
  });

  it("reads CIFAR-100's fine labels", async () => {
    write("h/cifar-100-binary/train.bin", Buffer.concat([record([3, 99]), record([4, 12])]));
    const train = await openDataset(`cifar100:${root}/h`);
    expect([train.length, train.label(0), train.label(1), train.classes?.length]).toEqual([2, 99, 12, 100]);
    expect((train.read(1) as Pixels).data.subarray(0, 3)).toEqual(Uint8Array.of(5, 6, 7));
  });

  it("refuses other versions, cut files and wrong labels", async () => {
    await expect(openDataset("cifar10")).rejects.toThrow(/cifar10 needs a folder/);
    await expect(openDataset(`cifar10:${root}`)).rejects.toThrow(/The binary version is needed/);
    write("cc/train.bin", record([3, 99]).subarray(1));
    await expect(openDataset(`cifar100:${root}/cc`)).rejects.toThrow(/has 3073 bytes, not a multiple of 3074/);
    write("cl/train.bin", record([3, 100]));
    await expect(openDataset(`cifar100:${root}/cl`)).rejects.toThrow(/label 100 at byte 0 is not below 100/);
  });
});

/** A small image whose left top corner is red and the rest blue. */
function corner(width = 16, height = 8): ReturnType<typeof sharp> {
  const data = Buffer.alloc(width * height * 3);
  for (let i = 0; i < width * height; i++) data[3 * i + (i % width < width / 2 && i < (width * height) / 2 ? 0 : 2)] = 255;
  return sharp(data, { raw: { width, height, channels: 3 } });
}

describe("folder", () => {
  it("takes the first level of folders for classes, by name, and goes into the depths", async () => {
    const png = await corner().png().toBuffer();
    for (const file of ["b/2.png", "b/deep/er/1.PNG", "a/x.png", "Z/y.png", "a/notes.txt", ".hidden/z.png", "a/._x.png"])
      write(`f/${file}`, png);
    const folder = await openDataset(`folder:${root}/f`);
    expect(folder.classes).toEqual(["Z", "a", "b"]);
    const files = Array.from({ length: folder.length }, (_, i) => [folder.path(i).slice(root.length + 3), folder.label(i)]);
    expect(files).toEqual([
      ["Z/y.png", 0],
      ["a/x.png", 1],
      ["b/2.png", 2],
      ["b/deep/er/1.PNG", 2],
    ]);
    const plain = await openDataset(`folder:${root}/f?labels=none`);
    expect([plain.length, plain.classes, plain.label(0)]).toEqual([4, undefined, undefined]);
    expect((await openDataset(`folder:${root}/f/b`)).classes).toBeUndefined();
    expect((await openDataset(`folder:${root}/f`, { subset: 3 })).length).toBe(3);
  });

  it("uses train/ and test/ or val/, with the train split's class numbers", async () => {
    const png = await corner().png().toBuffer();
    for (const file of ["train/a/1.png", "train/b/1.png", "train/c/1.png", "val/a/2.png", "val/c/2.png"]) write(`s/${file}`, png);
    const test = await openDataset(`folder:${root}/s?split=test`);
    expect([test.classes, test.label(0), test.label(1)]).toEqual([["a", "b", "c"], 0, 2]);
    expect((await openDataset(`folder:${root}/s`, { split: "train" })).length).toBe(3);
    write("s/val/q/2.png", png);
    await expect(openDataset(`folder:${root}/s?split=test`)).rejects.toThrow(/classes that .*train does not have: q/);
    await expect(openDataset(`folder:${root}/f?split=test`)).rejects.toThrow(/no test split/);
  });

  it("follows links once, and copes with names in any script", async () => {
    const png = await corner().png().toBuffer();
    write("l/one/日本 ä?.png", png);
    symlinkSync(join(root, "l"), join(root, "l/one/round"));
    symlinkSync(join(root, "f/b"), join(root, "l/two"));
    const folder = await openDataset(`folder:${root}/l`);
    expect(Array.from({ length: folder.length }, (_, i) => folder.path(i).slice(root.length + 3))).toEqual([
      "one/日本 ä?.png",
      "two/2.png",
      "two/deep/er/1.PNG",
    ]);
    expect(((await folder.read(0)) as Pixels).width).toBe(16);
  });

  it("refuses what is no folder or has no images", async () => {
    await expect(openDataset(`folder:${root}/nowhere`)).rejects.toThrow(/is not a folder/);
    write("t/readme.txt", "x");
    await expect(openDataset(`folder:${root}/t`)).rejects.toThrow(/has no images: 1 other files were found, none ending in jpg/);
  });
});

function crc32(bytes: Uint8Array): number {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

/** A PNG of 30,000 x 30,000 black pixels: small as a file, 900 million pixels when decoded. */
function bomb(): Buffer {
  const side = 30_000;
  const chunk = (type: string, data: Buffer): Buffer => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const out = Buffer.alloc(body.length + 8);
    out.writeUInt32BE(data.length);
    body.copy(out, 4);
    out.writeUInt32BE(crc32(body), body.length + 4);
    return out;
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(side, 0);
  header.writeUInt32BE(side, 4);
  header[8] = 1; // bits per pixel, grey
  const pixels = deflateSync(Buffer.alloc(side * (1 + side / 8)), { level: 1 });
  return Buffer.concat([
    Buffer.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10]),
    chunk("IHDR", header),
    chunk("IDAT", pixels),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}

describe("image files", () => {
  const red = [255, 0, 0];
  const blue = [0, 0, 255];
  const pixel = (image: Pixels, x: number, y: number): number[] => [
    ...image.data.subarray((y * image.width + x) * 3, (y * image.width + x) * 3 + 3),
  ];

  it("lists every bad file with its reason, and no good one", async () => {
    const jpeg = await sharp({
      create: { width: 64, height: 64, channels: 3, background: "#000", noise: { type: "gaussian", mean: 128, sigma: 50 } },
    })
      .jpeg()
      .toBuffer();
    write("bad/good.jpg", jpeg);
    write("bad/truncated.jpg", jpeg.subarray(0, jpeg.length >> 1));
    write("bad/truncated.png", (await corner(64, 64).png({ compressionLevel: 0 }).toBuffer()).subarray(0, 5000));
    write("bad/zero.jpg", "");
    write("bad/text.png", "this is no picture");
    mkdirSync(join(root, "bad/folder.jpg"));
    write(
      "bad/tiny.png",
      await sharp({ create: { width: 1, height: 1, channels: 3, background: "#fff" } })
        .png()
        .toBuffer(),
    );
    write("bad/bomb.png", bomb());
    symlinkSync("/nowhere/x.jpg", join(root, "bad/link.jpg"));
    await expect(decodeFile(join(root, "bad/truncated.jpg"))).rejects.toThrow(/cut off or damaged \(.*premature end/i);
    chmodSync(write("bad/unreadable.jpg", jpeg), 0);
    const folder = await openDataset(`folder:${root}/bad`);
    const steps: number[] = [];
    const { total, bad } = await verifyDataset(folder, { onProgress: (done) => steps.push(done) });
    expect([total, steps.at(-1)]).toEqual([10, 10]);
    const reasons = new Map(bad.map(({ path, reason }) => [path.slice(root.length + 5), reason]));
    // Root may read everything; anybody else finds this file unreadable.
    const unreadable = reasons.get("unreadable.jpg");
    if (process.getuid?.() !== 0) expect(unreadable).toBe("it may not be read (no permission)");
    else expect(unreadable).toBeUndefined();
    reasons.delete("unreadable.jpg");
    expect([...reasons.keys()]).toEqual([
      "bomb.png",
      "folder.jpg",
      "link.jpg",
      "text.png",
      "tiny.png",
      "truncated.jpg",
      "truncated.png",
      "zero.jpg",
    ]);
    expect(reasons.get("bomb.png")).toBe("it has more than 100000000 pixels");
    expect(reasons.get("folder.jpg")).toBe("it is a directory");
    expect(reasons.get("link.jpg")).toBe("there is no such file (or a link to nothing)");
    expect(reasons.get("text.png")).toBe("it is not an image in a known format");
    expect(reasons.get("tiny.png")).toBe("it is 1x1 px, the shorter side below 4");
    expect(reasons.get("truncated.jpg")).toMatch(/^it is cut off or damaged/);
    expect(reasons.get("truncated.png")).toMatch(/^it is cut off or damaged/);
    expect(reasons.get("zero.jpg")).toBe("it is empty (0 bytes)");
  });

  it("applies the EXIF orientation", async () => {
    const upright = await decodeFile(write("i/plain.png", await corner().png().toBuffer()));
    expect([upright.width, upright.height, pixel(upright, 0, 0), pixel(upright, 15, 0)]).toEqual([16, 8, red, blue]);
    // Orientation 6: to be turned a quarter to the right, which brings the left top corner to the right.
    const turned = await decodeFile(
      write("i/turned.tif", await corner().withMetadata({ orientation: 6 }).tiff({ compression: "none" }).toBuffer()),
    );
    expect([turned.width, turned.height, pixel(turned, 7, 0), pixel(turned, 0, 0), pixel(turned, 7, 15)]).toEqual([
      8,
      16,
      red,
      blue,
      blue,
    ]);
    const jpeg = await decodeFile(
      write("i/turned.jpg", await corner(32, 16).withMetadata({ orientation: 6 }).jpeg({ quality: 100 }).toBuffer()),
    );
    expect([jpeg.width, jpeg.height]).toEqual([16, 32]);
    expect(pixel(jpeg, 15, 0)[0]).toBeGreaterThan(200);
  });

  it("reads CMYK, 16-bit, grey and indexed images as 8-bit RGB", async () => {
    const cmyk = await decodeFile(
      write("i/cmyk.jpg", await corner(32, 32).toColourspace("cmyk").jpeg({ quality: 100 }).toBuffer()),
    );
    expect(cmyk.channels).toBe(3);
    expect(pixel(cmyk, 2, 2)[0]).toBeGreaterThan(180);
    expect(pixel(cmyk, 2, 2)[2]).toBeLessThan(90);
    const deep = await decodeFile(write("i/deep.png", await corner().toColourspace("rgb16").png().toBuffer()));
    expect([pixel(deep, 0, 0), pixel(deep, 15, 7)]).toEqual([red, blue]);
    const grey = sharp(Buffer.from(Array.from({ length: 64 }, (_, i) => i * 4)), { raw: { width: 8, height: 8, channels: 1 } });
    const values = (image: Pixels): number[] =>
      Array.from({ length: 64 }, (_, i) => image.data[i * image.channels + image.channels - 1]!);
    const expected = Array.from({ length: 64 }, (_, i) => i * 4);
    expect(values(await decodeFile(write("i/grey.png", await grey.clone().toColourspace("b-w").png().toBuffer())))).toEqual(
      expected,
    );
    expect(values(await decodeFile(write("i/grey16.png", await grey.clone().toColourspace("grey16").png().toBuffer())))).toEqual(
      expected,
    );
    const indexed = await decodeFile(write("i/indexed.png", await corner().png({ palette: true }).toBuffer()));
    expect([pixel(indexed, 0, 0), pixel(indexed, 15, 7)]).toEqual([red, blue]);
  });

  it("takes the first frame of an animation and lays transparency on white", async () => {
    const frames = Buffer.concat([Buffer.alloc(8 * 8 * 3, 200), Buffer.alloc(8 * 8 * 3, 20)]);
    for (const format of ["gif", "webp"] as const) {
      const file = await sharp(frames, { raw: { width: 8, height: 16, channels: 3, pageHeight: 8 } })
        [format]({ loop: 0 })
        .toBuffer();
      expect((await sharp(file).metadata()).pages).toBe(2);
      const image = await decodeFile(write(`i/animated.${format}`, file));
      expect([image.width, image.height]).toEqual([8, 8]);
      expect(Math.abs(pixel(image, 3, 3)[0]! - 200)).toBeLessThan(5);
    }
    const glass = await sharp({ create: { width: 8, height: 8, channels: 4, background: { r: 255, g: 0, b: 0, alpha: 0 } } })
      .png()
      .toBuffer();
    expect(pixel(await decodeFile(write("i/glass.png", glass)), 0, 0)).toEqual([255, 255, 255]);
  });

  it("can shrink while decoding, but never enlarges", async () => {
    const large = write("i/large.jpg", await corner(400, 200).jpeg().toBuffer());
    const small = await decodeFile(large, { shrinkTo: 50 });
    expect([small.width, small.height]).toEqual([100, 50]);
    const same = await decodeFile(large, { shrinkTo: 5000 });
    expect([same.width, same.height]).toEqual([400, 200]);
    await expect(decodeFile(large, { maxPixels: 79_999 })).rejects.toThrow(/more than 79999 pixels/);
  });
});

describe("spec strings", () => {
  it("are split into kind, argument and options; other question marks belong to the path", () => {
    expect(parseSpec("fashion-mnist")).toEqual({ kind: "fashion-mnist", argument: "", options: {} });
    expect(parseSpec("folder:/a:b?c/d")).toEqual({ kind: "folder", argument: "/a:b?c/d", options: {} });
    expect(parseSpec("folder:/x?split=test&subset=10&seed=3&shrinkTo=448")).toEqual({
      kind: "folder",
      argument: "/x",
      options: { split: "test", subset: 10, seed: 3, shrinkTo: 448 },
    });
    expect(() => parseSpec("folder:/x?split=dev")).toThrow(/split is "dev"; expected train or test/);
    expect(() => parseSpec("folder:/x?subset=-1")).toThrow(/subset is "-1"; expected a whole number/);
  });

  it("name the known kinds when one is unknown, and can be added to", async () => {
    await expect(openDataset("imagenet:/x")).rejects.toThrow(
      /no dataset kind "imagenet".*known are fashion-mnist, cifar10, cifar100, folder/,
    );
    registerDataset("mine", (argument) => ({ name: argument, length: 0 }) as Dataset);
    expect((await openDataset("mine:abc")).name).toBe("abc");
    expect(() => registerDataset("My kind", () => ({}) as Dataset)).toThrow(/cannot be called/);
  });
});

describe("subset", () => {
  const whole: Dataset = {
    name: "whole",
    length: 100,
    classes: ["a", "b", "c"],
    spec: { kind: "x", payload: 0 },
    label: (i) => (i < 80 ? 0 : i < 98 ? 1 : 2),
    path: (i) => `${i}`,
    read: (i) => ({ width: 1, height: 1, channels: 1, data: Uint8Array.of(i) }),
  };
  const members = (part: Dataset): number[] => Array.from({ length: part.length }, (_, i) => Number(part.path(i)));

  it("is balanced over classes, as far as they reach, and the same for the same seed", () => {
    const part = subset(whole, 30, 5);
    const counts = [0, 0, 0];
    for (let i = 0; i < part.length; i++) counts[part.label(i)!]!++;
    expect(counts).toEqual([14, 14, 2]);
    expect(members(subset(whole, 30, 5))).toEqual(members(part));
    expect(members(subset(whole, 30, 6))).not.toEqual(members(part));
    expect(members(part)).toEqual([...members(part)].sort((a, b) => a - b));
    const larger = new Set(members(subset(whole, 50, 5)));
    expect(members(part).every((index) => larger.has(index))).toBe(true);
    expect(() => subset(whole, 101)).toThrow(/subset of 101 samples, but whole has 100/);
  });
});
