// A study's report as a picture: each seed a dot, each row's mean a bar, the reference's mean through all.
import { type RgbImage, stripChart } from "../draw/index.js";
import type { StudyReport } from "./study-report.js";

/** Null where there is nothing to draw yet. */
export function studyChart({ title, columns, rows, reference }: StudyReport): RgbImage | null {
  const drawn = rows.filter(({ seeds }) => seeds.length > 0);
  const shown = columns.filter(({ id }) => drawn.some(({ cells }) => id in cells));
  if (shown.length === 0) return null;
  const at = drawn.findIndex(({ kind, name }) => kind === "arm" && name === reference.name);
  return stripChart({
    title: `${title}: top-1 (%), a dot a seed`,
    rows: drawn.map(({ label, kind }) => ({ name: label, muted: kind === "baseline" })),
    panels: shown.map(({ id, label }) => ({
      title: label,
      values: drawn.map(({ seeds }) => seeds.flatMap(({ values }) => values[id] ?? [])),
    })),
    ...(at >= 0 && { reference: at }),
  });
}
