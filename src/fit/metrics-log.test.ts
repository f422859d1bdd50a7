// metrics.jsonl: whole lines only, and none twice.
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { MetricsLog } from "./metrics-log.js";

const folder = mkdtempSync(join(tmpdir(), "tessera-log-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("MetricsLog", () => {
  it("gives back what was appended, numbers that JSON lacks as text", () => {
    const log = new MetricsLog(join(folder, "plain.jsonl"));
    expect(log.read()).toEqual([]);
    log.sync();
    log.append({ kind: "step", step: 1, epoch: 0, loss: 0.1 + 0.2, kl: Number.NaN, gradientNorm: Number.POSITIVE_INFINITY });
    log.append({ kind: "knn", step: 1, epoch: 0, top1: { 20: 61.5 } });
    log.sync();
    expect(log.read()).toEqual([
      { kind: "step", step: 1, epoch: 0, loss: 0.1 + 0.2, kl: "NaN", gradientNorm: "Infinity" },
      { kind: "knn", step: 1, epoch: 0, top1: { 20: 61.5 } },
    ]);
  });

  it("rewinds to a step, and drops a line that was cut off", () => {
    const log = new MetricsLog(join(folder, "cut.jsonl"));
    log.rewind(0); // nothing there
    for (const step of [1, 2, 2, 3]) log.append({ kind: step === 3 ? "step" : "warning", step, epoch: 0, text: `${step}` });
    appendFileSync(log.path, '{"kind":"step","st');
    expect(log.read()).toHaveLength(4);
    log.rewind(2);
    expect(readFileSync(log.path, "utf8").split("\n")).toHaveLength(4);
    expect(log.read().map(({ step }) => step)).toEqual([1, 2, 2]);
  });

  it("says where and of which step a line could not be written", () => {
    const log = new MetricsLog(join(folder, "nowhere", "log.jsonl"));
    expect(() => log.append({ kind: "step", step: 7, epoch: 0 })).toThrow(
      /^the log of step 7 was not written: \S+log\.jsonl: ENOENT.*Make room for it, then go on from the newest checkpoint with --resume$/,
    );
  });
});
