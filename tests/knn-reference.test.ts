// k-NN equals an independent PyTorch program (tests/reference/knn.py).
import { describe, expect, it } from "vitest";
import { knn } from "../src/evaluate/index.js";
import { fromTypedArray, tidy } from "../src/torch/index.js";
import { fill, readGolden, testRegenerates } from "./reference/golden.js";

interface Case {
  bank: number;
  queries: number;
  dim: number;
  classes: number;
  k: number[];
  temperature: number;
  spread: number;
  top1: Record<string, number>;
  top5: Record<string, number>;
}

describe("k-NN by DINO's protocol", () => {
  for (const [name, each] of Object.entries(readGolden<Record<string, Case>>("knn"))) {
    it(`equals the reference: ${name}`, () => {
      const { dim, classes, k, temperature, spread } = each;
      const labelsOf = (count: number) => Int32Array.from({ length: count }, (_, i) => (i * 7 + Math.floor(i / 5)) % classes);
      const result = tidy(() => {
        const features = (labels: Int32Array, seed: number) => {
          const centres = fill([classes, dim], 1).indexSelect(0, fromTypedArray(labels).to("int64"));
          return centres.add(fill([labels.length, dim], seed), { alpha: spread });
        };
        const bankLabels = labelsOf(each.bank);
        const labels = labelsOf(each.queries);
        const [bank, queries] = [features(bankLabels, 2), features(labels, 3)];
        return knn({ bank, bankLabels, queries, labels, classes, k, temperature, queryChunk: 64, bankChunk: 400 });
      });
      for (const number of k) {
        expect(result.top1[number]).toBeCloseTo(each.top1[number]!, 12);
        expect(result.top5[number]).toBeCloseTo(each.top5[number]!, 12);
      }
    });
  }

  testRegenerates("knn");
});
