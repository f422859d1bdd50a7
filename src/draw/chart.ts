// Lines over steps or epochs: axes with round ticks, a grid, a legend.
import { DrawError } from "./errors.js";
import { blank, blendPixel, type Color, fillRect, type RgbImage } from "./image.js";
import { drawText, fitText, textHeight, textWidth } from "./text.js";
import { logTicks, niceTicks, tickLabel } from "./ticks.js";

/** A line. Points that are not finite leave a gap. */
export interface Series {
  readonly name: string;
  readonly x: ArrayLike<number>;
  readonly y: ArrayLike<number>;
  /** Default: the next of eight colours that colour-blind readers can tell apart. */
  readonly color?: Color;
}

export interface ChartOptions {
  series: readonly Series[];
  title?: string;
  xLabel?: string;
  yLabel?: string;
  /** Pixels; default 760 x 420. */
  width?: number;
  height?: number;
  /** Default: what the points need, and a little more. */
  yRange?: readonly [number, number];
  /** A logarithmic y axis: points at or below 0 are left out. Default false. */
  log?: boolean;
}

/** Okabe and Ito's colours, the yellow left out: it is too light for a line on white. */
export const colors: readonly Color[] = [
  [0, 114, 178],
  [213, 94, 0],
  [0, 158, 115],
  [204, 121, 167],
  [230, 159, 0],
  [86, 180, 233],
  [90, 90, 90],
  [120, 60, 20],
];
export const ink: Color = [34, 34, 34];
export const pale: Color = [228, 228, 228];

export interface Axis {
  readonly low: number;
  readonly high: number;
  readonly ticks: readonly number[];
  readonly labels: readonly string[];
  /** 0 at `low`, 1 at `high`. */
  place(value: number): number;
}

export function linearAxis(low: number, high: number, count: number): Axis {
  const ticks = niceTicks(low, high, count);
  const step = ticks.length > 1 ? ticks[1]! - ticks[0]! : 0;
  return { low, high, ticks, labels: ticks.map((each) => tickLabel(each, step)), place: (value) => (value - low) / (high - low) };
}

function logAxis(low: number, high: number): Axis {
  const ticks = logTicks(low, high);
  const span = Math.log(high / low);
  return {
    low,
    high,
    ticks,
    labels: ticks.map((each) => tickLabel(each, 0)),
    place: (value) => Math.log(value / low) / span,
  };
}

/** The smallest range that holds all values, wider by `margin` on both sides; a single value gets room around it. */
export function rangeOf(values: readonly number[], margin: number): [number, number] {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return [0, 1];
  const room = high > low ? (high - low) * margin : Math.max(Math.abs(low) * 0.1, 1e-3);
  return [low - room, high + room];
}

type Point = [x: number, y: number];

/** Finite points, cut where something is missing. */
function runsOf({ x, y }: Series, log: boolean): Point[][] {
  const runs: Point[][] = [[]];
  for (let i = 0; i < x.length; i++) {
    const point: Point = [x[i]!, y[i]!];
    if (Number.isFinite(point[0]) && Number.isFinite(point[1]) && (!log || point[1] > 0)) runs.at(-1)!.push(point);
    else if (runs.at(-1)!.length > 0) runs.push([]);
  }
  return runs.filter((run) => run.length > 0);
}

/** Adds to `cover` how much of each pixel a line of width `thick` covers. */
function strokeInto(cover: Float32Array, { width, height }: RgbImage, from: Point, to: Point, thick: number): void {
  const [ax, ay] = from;
  const [dx, dy] = [to[0] - ax, to[1] - ay];
  const length = dx * dx + dy * dy;
  const reach = thick / 2 + 1;
  const steps = Math.max(1, Math.ceil(Math.sqrt(length) / 16));
  // In short pieces, so that a long diagonal does not visit its whole bounding box.
  for (let s = 0; s < steps; s++) {
    const [t0, t1] = [s / steps, (s + 1) / steps];
    const xs = [ax + dx * t0, ax + dx * t1];
    const ys = [ay + dy * t0, ay + dy * t1];
    for (let y = Math.max(0, Math.floor(Math.min(...ys) - reach)); y <= Math.min(height - 1, Math.max(...ys) + reach); y++) {
      for (let x = Math.max(0, Math.floor(Math.min(...xs) - reach)); x <= Math.min(width - 1, Math.max(...xs) + reach); x++) {
        const t = length > 0 ? Math.min(1, Math.max(0, ((x - ax) * dx + (y - ay) * dy) / length)) : 0;
        const distance = Math.hypot(x - ax - t * dx, y - ay - t * dy);
        const covered = Math.min(1, Math.max(0, thick / 2 + 0.5 - distance));
        if (covered > cover[y * width + x]!) cover[y * width + x] = covered;
      }
    }
  }
}

interface Frame {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

function drawAxes(image: RgbImage, frame: Frame, x: Axis, y: Axis): void {
  const { left, top, width, height } = frame;
  const bottom = top + height;
  for (const [i, tick] of y.ticks.entries()) {
    const at = Math.round(bottom - y.place(tick) * height);
    fillRect(image, left, at, width, 1, pale);
    drawText(image, y.labels[i]!, left - 8, at - 7, { align: "right", color: ink });
  }
  for (const [i, tick] of x.ticks.entries()) {
    const at = Math.round(left + x.place(tick) * width);
    fillRect(image, at, top, 1, height, pale);
    fillRect(image, at, bottom, 1, 5, ink);
    drawText(image, x.labels[i]!, at, bottom + 9, { align: "center", color: ink });
  }
  fillRect(image, left, top, 1, height + 1, ink);
  fillRect(image, left, bottom, width, 1, ink);
}

function drawSeries(image: RgbImage, frame: Frame, axes: { x: Axis; y: Axis }, runs: Point[][], color: Color): void {
  const { left, top, width, height } = frame;
  const at = ([px, py]: Point): Point => [left + axes.x.place(px) * width, top + height - axes.y.place(py) * height];
  const cover = new Float32Array(image.width * image.height);
  const count = runs.reduce((sum, run) => sum + run.length, 0);
  for (const run of runs) {
    const points = run.map(at);
    for (const [i, point] of points.entries()) {
      if (i > 0) strokeInto(cover, image, points[i - 1]!, point, 2);
      // Few points are measurements that should be seen; many are a curve.
      if (count <= 40 || run.length === 1) strokeInto(cover, image, point, point, 7);
    }
  }
  for (let y = Math.max(0, top - 4); y < Math.min(image.height, top + height + 4); y++) {
    for (let x = left - 4; x < Math.min(image.width, left + width + 5); x++) {
      const covered = cover[y * image.width + x]!;
      if (covered > 0) blendPixel(image, x, y, color, covered);
    }
  }
}

/** The names with their colours, from the right of line `y` to the left; as many lines as are needed. */
function legendLines(series: readonly Series[], width: number): number[][] {
  const lines: number[][] = [[]];
  let used = 0;
  for (const [i, { name }] of series.entries()) {
    const need = 26 + textWidth(name) + 18;
    if (used > 0 && used + need > width) {
      lines.push([]);
      used = 0;
    }
    lines.at(-1)!.push(i);
    used += need;
  }
  return lines;
}

function check({ series, width = 760, height = 420, yRange, log }: ChartOptions): void {
  if (series.length === 0) throw new DrawError("A chart without lines; give at least one series.");
  if (!(width >= 240 && height >= 160))
    throw new DrawError(`A chart of ${width} x ${height} pixels; expected at least 240 x 160.`);
  for (const { name, x, y } of series) {
    if (x.length !== y.length) throw new DrawError(`Series "${name}" has ${x.length} x for ${y.length} y; expected as many.`);
  }
  if (yRange && !(yRange[1] > yRange[0] && (!log || yRange[0] > 0))) {
    throw new DrawError(`yRange is [${yRange.join(", ")}]; expected the lower end first${log ? ", above 0" : ""}.`);
  }
}

/** A line chart. Several y scales (a loss and a share): make two charts and put them in one picture with `stacked`. */
export function lineChart(options: ChartOptions): RgbImage {
  check(options);
  const { series, title, xLabel, yLabel, width = 760, height = 420, log = false } = options;
  const runs = series.map((each) => runsOf(each, log));
  const points = runs.flat(2);
  const margin = log ? 0 : 0.05;
  const [low, high] =
    options.yRange ??
    rangeOf(
      points.map(([, y]) => y),
      margin,
    );
  const y = log ? logAxis(low > 0 ? low : 0.1, high > 0 ? high : 1) : linearAxis(low, high, Math.max(3, Math.round(height / 75)));
  const lines = series.length > 1 || !title ? legendLines(series, width - 40) : [];
  const line = textHeight() + 6;
  const top = 14 + (title ? line + 2 : 0) + lines.length * line;
  const left = 14 + (yLabel ? line : 0) + Math.max(...y.labels.map((label) => textWidth(label))) + 8;
  const bottom = 9 + line + (xLabel ? line : 6);
  const frame = { left, top, width: width - left - 24, height: height - top - bottom };
  const [first, last] = rangeOf(
    points.map(([x]) => x),
    0,
  );
  const x = linearAxis(first, last, Math.max(2, Math.round(frame.width / 100)));
  const image = blank(width, height);
  drawAxes(image, frame, x, y);
  const colorAt = (i: number): Color => series[i]!.color ?? colors[i % colors.length]!;
  for (const i of series.keys()) drawSeries(image, frame, { x, y }, runs[i]!, colorAt(i));
  if (title) drawText(image, fitText(title, width - 20), width >> 1, 10, { align: "center", color: ink });
  for (const [row, members] of lines.entries()) {
    let at = left;
    const above = 10 + (title ? line + 2 : 0) + row * line;
    for (const i of members) {
      fillRect(image, at, above + 6, 18, 3, colorAt(i));
      drawText(image, fitText(series[i]!.name, width - at - 30), at + 26, above, { color: ink });
      at += 26 + textWidth(series[i]!.name) + 18;
    }
  }
  if (xLabel) drawText(image, xLabel, left + (frame.width >> 1), height - line - 2, { align: "center", color: ink });
  if (yLabel) drawText(image, yLabel, 10, top + (frame.height >> 1), { align: "center", upwards: true, color: ink });
  return image;
}
