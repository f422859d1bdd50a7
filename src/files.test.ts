import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { removeTemporary } from "./files.js";

it("removeTemporary removes what dead processes were writing, and leaves what living ones write", () => {
  const folder = mkdtempSync(join(tmpdir(), "tessera-files-"));
  const stay = ["result.json", `.result.json.${process.ppid}.4.tmp`, `study.png.${process.ppid}-2.tmp`];
  const go = [".result.json.99999999.4.tmp", "study.png.99999999-2.tmp", `.a.${process.pid}.1.tmp`, "old.tmp"];
  for (const name of [...stay, ...go]) writeFileSync(join(folder, name), "");
  removeTemporary(folder);
  expect(readdirSync(folder).sort()).toEqual(stay.sort());
  removeTemporary(join(folder, "nowhere"));
  rmSync(folder, { recursive: true });
});
