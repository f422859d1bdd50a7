import { describe, expect, it } from "vitest";
import { collectGarbage } from "../../tests/garbage.js";
import { memoryStats, tensor, tidy } from "../torch/index.js";
import { DataError, denormalise, type RawBatch, toTensors } from "./index.js";

/** A batch of bytes 0, 1, 2, ... */
function rawBatch(shape: [number, number, number, number, number]): RawBatch & { released: number } {
  const count = shape.reduce((a, b) => a * b);
  const data = new Uint8Array(new SharedArrayBuffer(count));
  for (let i = 0; i < count; i++) data[i] = i * 5;
  const batch = {
    epoch: 0,
    batch: 0,
    views: { image: { shape, data } },
    index: Int32Array.from({ length: shape[1] }, (_, i) => i + 3),
    labels: new Int32Array(shape[1]),
    waitMs: 0,
    released: 0,
    release: () => {
      batch.released++;
    },
  };
  return batch;
}

const plan = { channels: 3, mean: [0.5, 0.25, 0.125], std: [0.2, 0.3, 0.4] } as const;

describe("toTensors", () => {
  it("is (byte / 255 - mean) / std by channel, and releases the slot", () => {
    tidy(() => {
      const raw = rawBatch([2, 3, 3, 2, 4]);
      const batch = toTensors(raw, plan);
      expect(batch.views.image!.shape).toEqual([2, 3, 3, 2, 4]);
      expect(batch.views.image!.dtype).toBe("float32");
      for (const [i, value] of batch.views.image!.toArray().entries()) {
        const channel = Math.floor(i / 8) % 3;
        expect(value).toBeCloseTo((raw.views.image!.data[i]! / 255 - plan.mean[channel]!) / plan.std[channel]!, 5);
      }
      expect(raw.released).toBe(1);
      expect([...batch.index]).toEqual([3, 4, 5]);
      expect([...batch.labels!]).toEqual([0, 0, 0]);
    });
  });

  it("takes grey images, keeps a single handle a view, and is undone by denormalise", () => {
    const grey = { channels: 1, mean: [0.3], std: [0.7] } as const;
    tidy(() => {
      const raw = rawBatch([1, 2, 1, 3, 3]);
      collectGarbage();
      const before = memoryStats().handles;
      const { views } = toTensors(raw, grey);
      expect(memoryStats().handles).toBe(before + 1);
      expect(views.image!.view([-1]).select(0, 7).item()).toBeCloseTo((35 / 255 - 0.3) / 0.7, 5);
      const back = denormalise(views.image!, grey).toArray();
      for (const [i, value] of back.entries()) expect(value).toBeCloseTo(raw.views.image!.data[i]! / 255, 6);
    });
  });

  it("denormalises views that are not contiguous, without touching them", () => {
    tidy(() => {
      const images = tensor([1, 2, 3, 4, 5, 6]).view([2, 3]).t().view([3, 2, 1]);
      expect(denormalise(images, plan).view([-1]).toArray()).toEqual(
        [1, 4, 2, 5, 3, 6].map((value, i) => expect.closeTo(value * plan.std[i >> 1]! + plan.mean[i >> 1]!, 6)),
      );
      expect(images.reshape([-1]).toArray()).toEqual([1, 4, 2, 5, 3, 6]);
    });
  });

  it("says what is wrong, and releases the slot all the same", () => {
    const raw = rawBatch([1, 1, 3, 1, 1]);
    const attempt = (given: Parameters<typeof toTensors>[1]) => () => toTensors(raw, given);
    expect(attempt({ channels: 1, mean: [0], std: [1] })).toThrow(
      'View "image" has 3 channels, the plan 1; use the plan of the loader.',
    );
    expect(attempt({ ...plan, mean: [0] })).toThrow(/1 means and 3 standard deviations for 3 channels/);
    expect(attempt({ ...plan, std: [1, 0, 1] })).toThrow(/standard deviation of channel 1 is 0/);
    expect(attempt({ ...plan, std: [1, 0, 1] })).toThrow(DataError);
    expect(raw.released).toBe(4);
    expect(() => tidy(() => denormalise(tensor([1, 2]), plan))).toThrow(/shape \[2\]; expected \[\.\.\., 3, H, W\]/);
  });
});
