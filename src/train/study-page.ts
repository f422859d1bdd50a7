// A page of results that is generated: each study has its place between two comments.
import { copyFileSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { replaceText } from "../files.js";
import { RunError } from "../fit/index.js";
import { studyMarkdown } from "./study-markdown.js";
import type { StudyReport } from "./study-report.js";

/**
 * Puts a report in its place in a Markdown page: between `<!-- study:NAME -->` and `<!-- /study:NAME -->`, or at the end where these are
 * not there. The chart is copied to images/study-NAME.png beside the page.
 *
 * @param out the study's folder
 * @throws RunError where only one of the two comments is there
 */
export function writeIntoPage(page: string, report: StudyReport, out: string): void {
  const before = existsSync(page) ? readFileSync(page, "utf8") : "";
  const drawn = join(out, "study.png");
  const image = `images/study-${report.study}.png`;
  if (existsSync(drawn)) {
    mkdirSync(join(dirname(page), "images"), { recursive: true });
    copyFileSync(drawn, join(dirname(page), image));
  }
  const text = studyMarkdown(report, { level: 2, ...(existsSync(drawn) && { chart: image }) });
  replaceText(page, withSection(before, report.study, text, page));
}

/** The page with the text in the study's place. */
export function withSection(page: string, study: string, text: string, path = "the page"): string {
  const [open, close] = [`<!-- study:${study} -->`, `<!-- /study:${study} -->`];
  const section = `${open}\n\n${text}\n\n${close}`;
  const [start, end] = [page.indexOf(open), page.indexOf(close)];
  if (start < 0 && end < 0) return `${page.trimEnd()}${page.trim() ? "\n\n" : ""}${section}\n`;
  if (start < 0 || end < start) {
    throw new RunError(`${path} has ${start < 0 ? close : open} without ${start < 0 ? open : close} after it; mend or remove it`);
  }
  return `${page.slice(0, start)}${section}${page.slice(end + close.length)}`;
}
