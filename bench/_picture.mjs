// The table of docs/performance.md as a picture: how much faster, and with how much memory.
import { stripChart } from "../dist/draw/index.js";
import { columnOf } from "./_page.mjs";

// What a picture has no room for: batches, sizes of crops.
const lengthy = / step(?=,)|, batch \d+|, [\d x+]+(?= from)|, \d+ workers/g;

/**
 * A dot for each of the table's rows, beside PyTorch's at 1.
 *
 * @param page with a table that has rows
 */
export function pictureOf(page) {
  const names = columnOf(page, "work").map((work) => work.replace(lengthy, ""));
  const values = (column) => [[1], ...columnOf(page, column).map((cell) => [Number.parseFloat(cell)])];
  return stripChart({
    rows: ["PyTorch", ...names].map((name) => ({ name })),
    panels: [
      { title: "times as fast", values: values("ratio") },
      { title: "times the memory", values: values("memory") },
    ],
    reference: 0,
  });
}
