import { describe, expect, it } from "vitest";
import { rowsOf, withRows } from "./_page.mjs";
import { pictureOf } from "./_picture.mjs";

const empty = "# Speed\n\n<!-- bench -->\n<!-- /bench -->\n\nAfter.\n";
const row = (work, ratio) => [work, "1 s", "2 s", ratio, "1.5", "yes", "40 %", "0.8", "wall", "today"];

describe("the table of measurements", () => {
  it("comes between its comments, and leaves the rest of the page alone", () => {
    const page = withRows(empty, [row("dino", "2.00")]);
    expect(page.startsWith("# Speed\n\n<!-- bench -->\n\n| work |")).toBe(true);
    expect(page.endsWith("|\n\n<!-- /bench -->\n\nAfter.\n")).toBe(true);
    expect([...rowsOf(page).keys()]).toEqual(["dino"]);
  });

  it("keeps rows that are not measured again, in their order", () => {
    const before = withRows(empty, [row("dino", "2.00"), row("mae", "1.00")]);
    const after = withRows(before, [row("dino", "2.50"), row("knn", "1.20")]);
    const rows = rowsOf(after);
    expect([...rows.keys()]).toEqual(["dino", "mae", "knn"]);
    expect(rows.get("dino")).toContain("| 2.50 |");
    expect(withRows(after, [])).toBe(after);
  });

  it("needs its comments", () => {
    expect(() => withRows("# Speed\n", [])).toThrow(/no place for the table/);
  });

  it("is drawn with a dot for each row, and grows with them", () => {
    const [one, two] = [["dino"], ["dino", "knn"]].map((names) =>
      pictureOf(
        withRows(
          empty,
          names.map((name) => row(name, "1.50 (1.40 to 1.60)")),
        ),
      ),
    );
    expect(two.width).toBe(one.width);
    expect(two.height).toBeGreaterThan(one.height);
  });
});
