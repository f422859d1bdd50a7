// Affine transforms of planar 8-bit crops, in place, with the arithmetic of PIL's Image.transform(AFFINE) and Image.rotate: each pixel of the
// result looks at the place in the original that its centre comes from, interpolated without a low-pass filter and cut (not rounded) to 8 bits.

/** x and y of the original as a x + b y + c and d x + e y + f of the result's, in pixels. */
export type AffineMatrix = readonly [a: number, b: number, c: number, d: number, e: number, f: number];

/** How PIL interpolates in a transform. */
export type AffineInterpolation = "bilinear" | "bicubic";

let original = new Uint8Array(0);

/**
 * Transforms `channels` planes of height x width at `at`.
 *
 * @param fill a grey level for each channel, for what lies outside of the original
 */
export function affine(
  data: Uint8Array,
  at: number,
  height: number,
  width: number,
  channels: number,
  matrix: AffineMatrix,
  interpolation: AffineInterpolation,
  fill: readonly number[],
): void {
  const plane = height * width;
  const length = plane * channels;
  if (original.length < length) original = new Uint8Array(length);
  original.set(data.subarray(at, at + length));
  const [a, b, c, d, e, f] = matrix;
  const taps = interpolation === "bicubic" ? 4 : 2;
  const before = interpolation === "bicubic" ? 1 : 0;
  const columns = new Int32Array(taps);
  const rows = new Int32Array(taps);
  const lines = new Float64Array(4);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const fromX = a * (x + 0.5) + b * (y + 0.5) + c;
      const fromY = d * (x + 0.5) + e * (y + 0.5) + f;
      const to = at + y * width + x;
      if (!(fromX >= 0 && fromX < width && fromY >= 0 && fromY < height)) {
        for (let channel = 0; channel < channels; channel++) data[to + channel * plane] = fill[channel]!;
        continue;
      }
      const left = Math.floor(fromX - 0.5);
      const top = Math.floor(fromY - 0.5);
      const dx = fromX - 0.5 - left;
      const dy = fromY - 0.5 - top;
      for (let tap = 0; tap < taps; tap++) {
        columns[tap] = Math.min(Math.max(left - before + tap, 0), width - 1);
        rows[tap] = Math.min(Math.max(top - before + tap, 0), height - 1) * width;
      }
      for (let channel = 0; channel < channels; channel++) {
        const from = channel * plane;
        let value: number;
        if (taps === 2) {
          for (let line = 0; line < 2; line++) {
            const row = from + rows[line]!;
            const first = original[row + columns[0]!]!;
            lines[line] = first + (original[row + columns[1]!]! - first) * dx;
          }
          value = lines[0]! + (lines[1]! - lines[0]!) * dy;
        } else {
          for (let line = 0; line < 4; line++) {
            const row = from + rows[line]!;
            lines[line] = cubic(
              original[row + columns[0]!]!,
              original[row + columns[1]!]!,
              original[row + columns[2]!]!,
              original[row + columns[3]!]!,
              dx,
            );
          }
          value = cubic(lines[0]!, lines[1]!, lines[2]!, lines[3]!, dy);
        }
        data[to + from] = value <= 0 ? 0 : value >= 255 ? 255 : Math.trunc(value);
      }
    }
  }
}

/** The cubic through four neighbours with a = -1 that PIL's transforms have (its resizing has -0.5), `t` beyond the second. */
function cubic(v1: number, v2: number, v3: number, v4: number, t: number): number {
  const linear = v3 - v1;
  const square = 2 * (v1 - v2) + v3 - v4;
  const cube = -v1 + v2 - v3 + v4;
  return v2 + t * (linear + t * (square + t * cube));
}

/** Image.rotate's matrix: `degrees` counter-clockwise about the middle. */
export function rotation(degrees: number, height: number, width: number): AffineMatrix {
  const angle = (-(((degrees % 360) + 360) % 360) * Math.PI) / 180;
  const exact = (x: number) => Number(x.toFixed(15));
  const [cos, sin] = [exact(Math.cos(angle)), exact(Math.sin(angle))];
  const [x, y] = [width / 2, height / 2];
  return [cos, sin, cos * -x + sin * -y + x, -sin, cos, -sin * -x + cos * -y + y];
}
