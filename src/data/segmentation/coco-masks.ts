// Classes of pixels from COCO's objects: what no object covers is background, and where objects overlap the smaller one is in front.
import { CocoDataset, type CocoPayload } from "../coco/dataset.js";
import { maskArea, paintMask } from "../coco/rle.js";
import type { Dataset, DatasetSpec } from "../dataset.js";
import { DataError } from "../errors.js";
import type { Pixels } from "../pixels.js";
import { IGNORE_LABEL } from "./plan.js";

/** `background` and the categories, in the order of their ids. An object with no more than a box makes its box pixels of no class. */
export class CocoMasksDataset implements Dataset {
  static readonly kind = "coco-masks";
  readonly name: string;
  readonly length: number;
  readonly pixelClasses: readonly string[];
  readonly #coco: CocoDataset;

  constructor(coco: CocoDataset) {
    const { categories, length, name } = coco;
    if (categories.length >= IGNORE_LABEL) {
      throw new DataError(
        `${name} has ${categories.length} categories; expected at most ${IGNORE_LABEL - 1} for classes of pixels.`,
      );
    }
    this.#coco = coco;
    this.length = length;
    this.name = name.replace(/^coco:/, "coco-masks:");
    this.pixelClasses = ["background", ...categories.map((each) => each.name)];
  }

  /** What `spec` says, made again. */
  static restore(payload: unknown): CocoMasksDataset {
    return new CocoMasksDataset(new CocoDataset(payload as CocoPayload));
  }

  get spec(): DatasetSpec {
    return { kind: CocoMasksDataset.kind, payload: this.#coco.spec.payload };
  }

  /** The classes are of pixels, not of images. */
  label(): undefined {
    return undefined;
  }

  path(index: number): string {
    return this.#coco.path(index);
  }

  async read(index: number): Promise<Pixels> {
    return { ...(await this.#coco.read(index)), labels: this.#labels(index) };
  }

  #labels(index: number): Uint8Array {
    const coco = this.#coco;
    const [height, width] = coco.size(index);
    const labels = new Uint8Array(height * width);
    const objects = coco.objects(index).map((object) => {
      const mask = coco.mask(object);
      return { object, mask, area: mask ? maskArea(mask) : Number.POSITIVE_INFINITY };
    });
    for (const { object, mask } of objects.sort((a, b) => b.area - a.area || a.object - b.object)) {
      if (mask) paintMask(mask, labels, 1 + coco.labelOf(object));
      else fillBox(labels, [height, width], coco.box(object));
    }
    return labels;
  }
}

function fillBox(
  labels: Uint8Array,
  [height, width]: readonly [number, number],
  [x, y, w, h]: readonly [number, number, number, number],
): void {
  const [left, right] = [Math.max(0, Math.floor(x)), Math.min(width, Math.ceil(x + w))];
  for (let row = Math.max(0, Math.floor(y)); row < Math.min(height, Math.ceil(y + h)); row++) {
    if (right > left) labels.fill(IGNORE_LABEL, row * width + left, row * width + right);
  }
}
