// Images for tests of learning: shapes of every colour, drawn by a formula, so that they can be had at any size and without a file.
/** Numbers in [0, 1) from a seed, so that every run draws the same images. */
export function numbers(seed: number): () => number {
  let state = seed * 2654435761 + 1;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

export type Draw = (x: number, y: number) => readonly [number, number, number];

/** Image number so-and-so: a disc, a square or stripes in one colour on a shaded ground of another; x and y in [0, 1]. */
export function shape(image: number): Draw {
  const next = numbers(image + 1);
  const color = () => [next(), next(), next()] as const;
  const [front, back] = [color(), color()];
  const [cx, cy, radius, kind] = [0.3 + 0.4 * next(), 0.3 + 0.4 * next(), 0.15 + 0.2 * next(), Math.floor(3 * next())];
  const inside = [
    (x: number, y: number) => Math.hypot(x - cx, y - cy) < radius,
    (x: number, y: number) => Math.max(Math.abs(x - cx), Math.abs(y - cy)) < radius,
    (x: number, y: number) => Math.sin((x * Math.cos(cx * 6) + y * Math.sin(cx * 6)) * 30) > 0.3,
  ][kind]!;
  return (x, y) => (inside(x, y) ? front : (back.map((each) => each * (0.6 + 0.4 * y)) as unknown as typeof back));
}
