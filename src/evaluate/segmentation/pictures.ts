// What a segmentation looks like: some images, their truth, and what was predicted.
import type { Pixels } from "../../data/index.js";
import { type LabelledImage, type RgbImage, segmentationGrid } from "../../draw/index.js";

export interface Example {
  readonly image: RgbImage;
  readonly truth: LabelledImage;
  readonly predicted: LabelledImage;
}

export function exampleOf(image: Pixels, predicted: Uint8Array): Example {
  const { width, height, channels, data, labels } = image;
  const rgb = channels === 3 ? data : Uint8Array.from({ length: 3 * data.length }, (_, i) => data[Math.floor(i / 3)]!);
  return {
    image: { width, height, data: rgb },
    truth: { width, height, labels: labels! },
    predicted: { width, height, labels: predicted },
  };
}

/** One row an image, with a legend of the classes that are seen. */
export function examplesPicture(examples: readonly Example[], classes: readonly string[]): RgbImage {
  return segmentationGrid({
    images: examples.map(({ image }) => image),
    columns: [
      ["truth", examples.map(({ truth }) => truth)],
      ["prediction", examples.map(({ predicted }) => predicted)],
    ],
    classes,
  });
}
