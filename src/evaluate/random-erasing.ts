// Random erasing (Zhong et al., 2020) as timm has it and DeiT, MAE and CAE use it: a box of each normalised image becomes noise, pixel by pixel.
// What is erased, and by which noise, is a function of (seed, epoch, sample).
import { namedStream, Rng } from "../data/index.js";
import { empty, Generator, type Tensor, tidy } from "../torch/index.js";

/** Shares of the area (2 % to a third) and ratios of height to width (0.3 to 1/0.3) that timm draws boxes from. */
const AREA = [0.02, 1 / 3] as const;
const RATIO = [Math.log(0.3), Math.log(1 / 0.3)] as const;
const ATTEMPTS = 10;
const STREAM = namedStream("randomErasing");

interface Box {
  top: number;
  left: number;
  height: number;
  width: number;
}

/** The box to erase of an image of this size, or null where none is; @param rng at the image's stream */
export function drawErasing(rng: Rng, probability: number, [height, width]: readonly [number, number]): Box | null {
  if (!rng.chance(probability)) return null;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const area = rng.uniform(AREA[0], AREA[1]) * height * width;
    const ratio = Math.exp(rng.uniform(RATIO[0], RATIO[1]));
    const h = Math.round(Math.sqrt(area * ratio));
    const w = Math.round(Math.sqrt(area / ratio));
    if (h < 1 || w < 1 || h >= height || w >= width) continue;
    return { top: rng.intBelow(height - h + 1), left: rng.intBelow(width - w + 1), height: h, width: w };
  }
  return null;
}

/** Erases boxes of a batch in place. */
export class RandomErasing {
  readonly #rng: Rng;
  readonly #noise = new Generator(0);

  /** @param probability that an image loses a box */
  constructor(
    readonly probability: number,
    seed: number,
  ) {
    this.#rng = new Rng(seed);
  }

  /** @param images normalised, float32 [B, C, H, W] @param index the sample of each */
  apply(images: Tensor, epoch: number, index: Int32Array): void {
    if (this.probability === 0) return;
    const [, channels = 0, height = 0, width = 0] = images.shape;
    for (const [row, sample] of index.entries()) {
      const rng = this.#rng.at(epoch, sample, STREAM);
      const box = drawErasing(rng, this.probability, [height, width]);
      if (!box) continue;
      this.#noise.manualSeed(rng.word());
      tidy(() => {
        const noise = empty([channels, box.height, box.width]).normal_(0, 1, this.#noise);
        const target = images.select(0, row).narrow(1, box.top, box.height).narrow(2, box.left, box.width);
        target.copy_(noise);
      });
    }
  }
}
