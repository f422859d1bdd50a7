import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { buildFor, choiceOf, fingerprint } from "./addon-path.mjs";

let build;
beforeEach(() => {
  build = mkdtempSync(join(tmpdir(), "tessera-build-"));
  writeFileSync(join(build, "libtorch_cpu.so"), "one");
});
afterEach(() => rmSync(build, { recursive: true }));

/** Writes what a build for this environment would write, with a libtorch in the build folder itself. */
function built(env, changes = {}) {
  const addon = join(build, `${choiceOf(env)}.node`);
  writeFileSync(addon, "");
  const libtorch = { root: build, lib: build, version: "2.13.0" };
  const record = { addon, libtorch, sources: "s1", stamp: "a", fingerprint: fingerprint(build), ...changes };
  for (const name of [`for-${choiceOf(env)}.json`, "current.json"]) writeFileSync(join(build, name), JSON.stringify(record));
  return record;
}

describe("buildFor", () => {
  it("says what to run when nothing is built", () => {
    expect(() => buildFor({}, build)).toThrow("the native addon is not built yet: run make setup.");
  });

  it("keeps the builds for several libtorch apart", () => {
    const first = built({});
    const other = built({ LIBTORCH: "/opt/other" }, { libtorch: { root: "/opt/other", lib: build, version: "2.5.0" } });
    const system = built({ TESSERA_LIBTORCH: "system" });
    expect(buildFor({}, build)).toEqual(first);
    expect(buildFor({ LIBTORCH: "/opt/other/" }, build)).toEqual(other);
    expect(buildFor({ TESSERA_LIBTORCH: "system" }, build)).toEqual(system);
  });

  it("does not give another libtorch's addon", () => {
    built({ LIBTORCH: "/opt/other" });
    expect(() => buildFor({}, build)).toThrow("not built for the libtorch found without LIBTORCH");
    expect(() => buildFor({ LIBTORCH: "/opt/third" }, build)).toThrow("not built for LIBTORCH=/opt/third");
  });

  it("takes the last build when LIBTORCH names the folder it found by itself", () => {
    const record = built({});
    expect(buildFor({ LIBTORCH: build }, build)).toEqual(record);
  });

  it("refuses a build of older sources", () => {
    built({});
    built({ LIBTORCH: "/opt/other" }, { sources: "s2" });
    expect(() => buildFor({}, build)).toThrow("is older than its sources: run make setup.");
  });

  it("refuses an addon that is gone and a libtorch that was replaced or removed", () => {
    const { addon } = built({});
    rmSync(addon);
    expect(() => buildFor({}, build)).toThrow("is gone: run make setup.");
    built({});
    writeFileSync(join(build, "libtorch_cpu.so"), "another");
    expect(() => buildFor({}, build)).toThrow("was replaced or removed since the addon was built");
    rmSync(join(build, "libtorch_cpu.so"));
    expect(() => buildFor({}, build)).toThrow("was replaced or removed since the addon was built");
  });

  it("says what to do about a record that cannot be read", () => {
    writeFileSync(join(build, "current.json"), "{");
    expect(() => buildFor({}, build)).toThrow("run make clean setup.");
  });
});
