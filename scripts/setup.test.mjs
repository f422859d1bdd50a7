import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { compileFlags, linkFlags } from "./build-native.mjs";
import { dependenciesAreThere } from "./dependencies.mjs";
import { getFashionMnist } from "./get-fashion-mnist.mjs";
import { digest, run, sweep, writeAtomically } from "./shared.mjs";
import { countReport } from "./test.mjs";

let root;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "tessera-setup-"));
});
afterEach(() => rmSync(root, { recursive: true }));

describe("dependenciesAreThere", () => {
  const lock = (packages) => JSON.stringify({ lockfileVersion: 3, packages });
  const zod = { version: "4.0.0", integrity: "sha512-a" };

  function tree(wanted, installed) {
    mkdirSync(join(root, "node_modules", "zod"), { recursive: true });
    writeFileSync(join(root, "package-lock.json"), lock({ "": { name: "x" }, ...wanted }));
    if (installed) writeFileSync(join(root, "node_modules", ".package-lock.json"), lock(installed));
    return dependenciesAreThere(root);
  }

  it("compares what is installed with what is locked", () => {
    expect(tree({ "node_modules/zod": zod }, undefined)).toBe(false);
    expect(tree({ "node_modules/zod": zod }, { "node_modules/zod": zod })).toBe(true);
    expect(tree({ "node_modules/zod": { ...zod, version: "4.1.0" } }, { "node_modules/zod": zod })).toBe(false);
    expect(tree({ "node_modules/zod": zod, "node_modules/new": zod }, { "node_modules/zod": zod })).toBe(false);
  });

  it("does not wait for packages of other platforms", () => {
    const other = { ...zod, optional: true };
    expect(tree({ "node_modules/zod": zod, "node_modules/win32": other }, { "node_modules/zod": zod })).toBe(true);
  });

  it("sees a package whose folder is gone", () => {
    expect(tree({ "node_modules/gone": zod }, { "node_modules/gone": zod })).toBe(false);
  });
});

describe("flags", () => {
  const libtorch = { lib: "/x/lib", include: ["/x/include"], cxx11Abi: 0, cuda: false };

  it("follow the libtorch", () => {
    expect(compileFlags(libtorch)).toContain("-D_GLIBCXX_USE_CXX11_ABI=0");
    expect(compileFlags(libtorch).join(" ")).toContain("-isystem /x/include");
    expect(linkFlags(libtorch)).toContain("-Wl,-rpath,/x/lib");
    expect(linkFlags(libtorch)).not.toContain("-ltorch_cuda");
  });

  it("keep CUDA's kernels from being dropped by the linker", () => {
    const flags = linkFlags({ ...libtorch, cuda: true });
    expect(flags.indexOf("-Wl,--no-as-needed")).toBeLessThan(flags.indexOf("-ltorch_cuda"));
    expect(flags).toContain("-ltorch_cuda");
  });

  it("leave the system's own folder to the compiler", () => {
    expect(compileFlags({ ...libtorch, include: ["/usr/include"] })).not.toContain("/usr/include");
  });
});

describe("getFashionMnist", () => {
  const names = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];
  const never = () => {
    throw new Error("asked apt-get");
  };

  it("takes FASHION_MNIST when it holds the files, plain or packed, and says which it lacks", () => {
    writeFileSync(join(root, names[0]), "");
    for (const name of names.slice(1, 3)) writeFileSync(join(root, `${name}.gz`), "");
    expect(() => getFashionMnist({ FASHION_MNIST: root }, { install: never })).toThrow(`which lacks ${names[3]} (plain or .gz)`);
    writeFileSync(join(root, `${names[3]}.gz`), "");
    expect(getFashionMnist({ FASHION_MNIST: root }, { install: never })).toBe(root);
    expect(getFashionMnist({}, { debian: root, install: never })).toBe(root);
  });

  it("installs Debian's package, or says how to get it", () => {
    const asked = [];
    const install = (packages) => {
      asked.push(...packages);
      for (const name of names) writeFileSync(join(root, name), "");
      return null;
    };
    expect(() => getFashionMnist({}, { debian: root, install: () => "no rights" })).toThrow(
      "(no rights): run sudo apt-get install",
    );
    expect(getFashionMnist({}, { debian: root, install })).toBe(root);
    expect(asked).toEqual(["dataset-fashion-mnist"]);
  });
});

describe("countReport", () => {
  const file = (status, ...results) => ({ status, assertionResults: results.map((result) => ({ status: result })) });

  it("counts tests", () => {
    const report = {
      numPassedTests: 3,
      numFailedTests: 1,
      testResults: [file("failed", "passed", "failed"), file("passed", "passed")],
    };
    expect(countReport(report, 1)).toEqual({ passed: 3, failed: 1 });
    expect(countReport({ ...report, numFailedTests: 0, testResults: [file("passed", "passed")] }, 0)).toEqual({
      passed: 3,
      failed: 0,
    });
  });

  it("counts a file that cannot be loaded, an unexplained exit code, no test and no report", () => {
    expect(countReport({ numPassedTests: 2, numFailedTests: 0, testResults: [file("failed")] }, 1)).toEqual({
      passed: 2,
      failed: 1,
    });
    expect(countReport({ numPassedTests: 2, numFailedTests: 0, testResults: [] }, 1)).toEqual({ passed: 2, failed: 1 });
    expect(countReport({ numPassedTests: 0, numFailedTests: 0, testResults: [] }, 0)).toEqual({ passed: 0, failed: 1 });
    expect(countReport(null, 139)).toEqual({ passed: 0, failed: 1 });
  });
});

describe("shared", () => {
  it("keeps the parts of a digest apart", () => {
    expect(digest(["ab", "c"])).not.toBe(digest(["a", "bc"]));
    expect(digest(["a"])).toMatch(/^[0-9a-f]{16}$/);
  });

  it("sweeps what dead processes left, and nothing else", () => {
    const dead = run(process.execPath, ["-p", "process.pid"]).stdout.trim();
    for (const name of [`.tmp-${dead}`, `.tmp-${process.pid}`, "2.13.0"]) mkdirSync(join(root, name));
    sweep(root);
    expect(readdirSync(root).sort()).toEqual([`.tmp-${process.pid}`, "2.13.0"]);
  });

  it("writes whole files and leaves no other", () => {
    writeAtomically(join(root, "a.json"), "1");
    writeAtomically(join(root, "a.json"), "2");
    expect([readdirSync(root), readFileSync(join(root, "a.json"), "utf8")]).toEqual([["a.json"], "2"]);
  });

  it("reports a program that is not there as failed", () => {
    expect(run(join(root, "none"), []).ok).toBe(false);
  });
});
