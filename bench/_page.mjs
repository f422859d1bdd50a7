// The table of docs/performance.md: one row a measurement, between two comments. Rows that are not measured again stay as they are.

const OPEN = "<!-- bench -->";
const CLOSE = "<!-- /bench -->";
const HEAD = [
  "work",
  "Tessera",
  "PyTorch, its best",
  "ratio",
  "aim",
  "same work",
  "of the matrix rate",
  "memory",
  "clock",
  "measured",
];

const line = (cells) => `| ${cells.join(" | ")} |`;

/** The rows of a page's table by what they measure. */
export function rowsOf(page) {
  const section = page.slice(page.indexOf(OPEN) + OPEN.length, page.indexOf(CLOSE));
  const lines = section.split("\n").filter((each) => each.startsWith("| "));
  return new Map(lines.slice(1).map((each) => [each.split("|")[1].trim(), each]));
}

/** What stands under a column (one of HEAD) in each of a page's rows, in their order. */
export function columnOf(page, column) {
  const at = HEAD.indexOf(column);
  return [...rowsOf(page).values()].map((each) => each.split("|")[at + 1].trim());
}

/**
 * The page with new rows in its table; those of the same work are replaced.
 *
 * @param rows cells, the work first
 * @throws Error where the page has no place for the table
 */
export function withRows(page, rows) {
  if (!page.includes(OPEN) || page.indexOf(CLOSE) < page.indexOf(OPEN)) {
    throw new Error(`the page has no place for the table; expected ${OPEN} and ${CLOSE} after it`);
  }
  const all = rowsOf(page);
  for (const cells of rows) all.set(cells[0], line(cells));
  const table = [line(HEAD), `|${HEAD.map(() => "---").join("|")}|`, ...all.values()].join("\n");
  return `${page.slice(0, page.indexOf(OPEN) + OPEN.length)}\n\n${table}\n\n${page.slice(page.indexOf(CLOSE))}`;
}
