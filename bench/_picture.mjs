// The table of docs/performance.md as a picture: how much faster, and with how much memory.
import { stripChart } from "../dist/draw/index.js";
import { rowsOf } from "./_page.mjs";

// What a picture has no room for: batches, sizes of crops.
const lengthy = / step(?=,)|, batch \d+|, [\d x+]+(?= from)|, \d+ workers/g;

/**
 * A dot for each of the table's rows, beside PyTorch's at 1.
 *
 * @param page with a table that has rows
 */
export function pictureOf(page) {
  const works = [...rowsOf(page)].map(([name, line]) => {
    const cells = line.split("|").map((cell) => cell.trim());
    return { name, ratio: Number.parseFloat(cells[4]), memory: Number.parseFloat(cells[8]) };
  });
  const values = (of) => [[1], ...works.map((work) => [of(work)])];
  return stripChart({
    rows: [{ name: "PyTorch" }, ...works.map(({ name }) => ({ name: name.replace(lengthy, "") }))],
    panels: [
      { title: "times as fast", values: values(({ ratio }) => ratio) },
      { title: "times the memory", values: values(({ memory }) => memory) },
    ],
    reference: 0,
  });
}
