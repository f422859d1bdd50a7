// Polygons to masks, by COCO's rule, to the pixel: it decides areas and overlaps, so another rule would give another AP.
//
// Corners are rounded on a grid five times finer than the pixels. Each edge is walked on that grid in steps along its longer axis, the other
// coordinate rounded. Where the walk passes through the middle of a column of pixels, the column changes there from outside to inside or back, from
// the first pixel whose middle is not above the crossing (the upper of the two points of the step); what passes beyond the image's top or bottom
// changes it at its end, what passes beside the image changes nothing.
import { changesFor, type MaskSize, mergeMasks, type Rle, rleOfChanges } from "./rle.js";

/** Points of the fine grid in a pixel. */
const FINE = 5;

/** The grid point of a coordinate. Like everything here, numbers below 0 are cut towards 0, as a cast in C does. */
function fine(coordinate: number): number {
  return Math.trunc(FINE * coordinate + 0.5);
}

/** Collects where columns change. */
class Walk {
  count = 0;
  readonly #height: number;
  readonly #width: number;
  #u = Number.NaN;
  #v = 0;

  constructor([height, width]: MaskSize) {
    this.#height = height;
    this.#width = width;
  }

  /** Steps to the next point. */
  step(u: number, v: number): void {
    if (u !== this.#u && !Number.isNaN(this.#u)) {
      // Between the fine columns 5x + 2 and 5x + 3 lies the middle of pixel column x.
      const left = Math.min(u, this.#u);
      const column = (left - 2) / FINE;
      if (column >= 0 && column < this.#width && Number.isInteger(column)) this.#cross(column, Math.min(v, this.#v));
    }
    this.#u = u;
    this.#v = v;
  }

  #cross(column: number, v: number): void {
    const y = (v + 0.5) / FINE - 0.5;
    const row = Math.ceil(Math.min(Math.max(y, 0), this.#height));
    changesFor(this.count + 1)[this.count++] = column * this.#height + row;
  }
}

/** Walks an edge from one grid point to the next, both included. Which way it is walked does not matter to the points on it. */
function walkEdge(walk: Walk, x0: number, y0: number, x1: number, y1: number): void {
  const [dx, dy] = [Math.abs(x1 - x0), Math.abs(y1 - y0)];
  const flat = dx >= dy;
  const backwards = flat ? x0 > x1 : y0 > y1;
  const [fromX, fromY, toX, toY] = backwards ? [x1, y1, x0, y0] : [x0, y0, x1, y1];
  const steps = flat ? dx : dy;
  const slope = steps === 0 ? 0 : flat ? (toY - fromY) / dx : (toX - fromX) / dy;
  for (let i = 0; i <= steps; i++) {
    const along = backwards ? steps - i : i;
    if (flat) walk.step(fromX + along, Math.trunc(fromY + slope * along + 0.5));
    else walk.step(Math.trunc(fromX + slope * along + 0.5), fromY + along);
  }
}

/**
 * The mask of one polygon.
 *
 * @param points x and y of its corners by turns, in pixels; closed from the last to the first. Any numbers that are finite; the cost grows with
 *   the length of the outline, so callers refuse coordinates far outside of the image
 */
export function polygonMask(points: ArrayLike<number>, size: MaskSize): Rle {
  const corners = points.length >> 1;
  const walk = new Walk(size);
  for (let i = 0; i < corners; i++) {
    const next = (i + 1) % corners;
    walkEdge(walk, fine(points[2 * i]!), fine(points[2 * i + 1]!), fine(points[2 * next]!), fine(points[2 * next + 1]!));
  }
  const changes = changesFor(walk.count);
  changes.subarray(0, walk.count).sort();
  return rleOfChanges(changes, walk.count, size);
}

/** The mask of an object of several polygons: their union. */
export function polygonsMask(polygons: readonly ArrayLike<number>[], size: MaskSize): Rle {
  return mergeMasks(polygons.map((points) => polygonMask(points, size)));
}
