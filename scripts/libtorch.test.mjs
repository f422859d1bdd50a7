import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { unpackWheel } from "./get-libtorch.mjs";
import { compareVersions, findLibtorch, inspect } from "./libtorch.mjs";
import { run } from "./shared.mjs";

let root;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "tessera-libtorch-"));
});
afterEach(() => rmSync(root, { recursive: true }));

const NEW_STRING = "_ZN3c106detail14torchCheckFailEPKcS2_jRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE";
const OLD_STRING = "_ZN3c106detail14torchCheckFailEPKcS2_jRKSs";

function write(path, text) {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

const versionHeader = (version) => {
  const [major, minor, patch] = version.split(".");
  return `#define TORCH_VERSION_MAJOR ${major}\n#define TORCH_VERSION_MINOR ${minor}\n#define TORCH_VERSION_PATCH ${patch}\n`;
};

/** A folder that looks like a libtorch. */
function fake(name, { version = "2.13.0", lib = "lib", symbol = NEW_STRING } = {}) {
  const folder = join(root, name);
  write(join(folder, lib, "libtorch_cpu.so"), "");
  write(join(folder, lib, "libc10.so"), `\0${symbol}\0`);
  write(join(folder, "include/ATen/ATen.h"), "");
  write(join(folder, "include/torch/csrc/api/include/torch/version.h"), versionHeader(version));
  return folder;
}

/** A `python3` that answers with this folder as its torch. */
function fakePython(torch) {
  const path = join(root, "bin", "python3");
  write(path, `#!/bin/sh\necho "${torch}"\n`);
  chmodSync(path, 0o755);
  return join(root, "bin");
}

/** Looks only in the made-up places. */
const find = (env, places) =>
  findLibtorch(
    { PATH: join(root, "nothing"), LIBTORCH: "", TESSERA_LIBTORCH: "", ...env },
    { unpacked: join(root, "none"), system: [], ...places },
  );

describe("inspect", () => {
  it("tells libraries, headers, version and ABI", () => {
    const folder = fake("a");
    expect(inspect(folder, "system").found).toEqual({
      root: folder,
      lib: join(folder, "lib"),
      include: [join(folder, "include"), join(folder, "include/torch/csrc/api/include")],
      version: "2.13.0",
      source: "system",
      cuda: false,
      cxx11Abi: 1,
    });
  });

  it("reads the version of a wheel, which has more to it", () => {
    const folder = fake("a");
    write(join(folder, "version.py"), "from typing import Optional\n__version__ = '2.7.1+cu128'\ncuda: Optional[str] = '12.8'\n");
    expect(inspect(folder, "python").found.version).toBe("2.7.1");
  });

  it("sees CUDA and the old std::string", () => {
    const folder = fake("a", { symbol: OLD_STRING });
    write(join(folder, "lib/libtorch_cuda.so"), "");
    expect(inspect(folder, "python").found).toMatchObject({ cuda: true, cxx11Abi: 0 });
  });

  it.runIf(process.arch === "x64")("looks where Debian keeps libraries", () => {
    const folder = fake("usr", { version: "1.13.0", lib: "lib/x86_64-linux-gnu" });
    expect(inspect(folder, "system").found).toMatchObject({ lib: join(folder, "lib/x86_64-linux-gnu"), version: "1.13.0" });
  });

  it("names all that is missing", () => {
    expect(inspect(root, "system").missing).toEqual([
      "lib/libtorch_cpu.so",
      "include/ATen/ATen.h",
      "include/torch/csrc/api/include/torch/version.h",
    ]);
  });
});

describe("findLibtorch", () => {
  it("goes by LIBTORCH, then Python, then the unpacked copy, then the system's", () => {
    const places = { unpacked: join(root, "unpacked"), system: [join(root, "usr")] };
    expect(find({}, places)).toBeNull();
    fake("usr", { version: "1.13.0" });
    expect(find({}, places)).toMatchObject({ source: "system", version: "1.13.0" });
    fake("unpacked/2.9.0", { version: "2.9.0" });
    fake("unpacked/2.13.0");
    expect(find({}, places)).toMatchObject({ source: "unpacked", version: "2.13.0" });
    const PATH = fakePython(fake("site-packages/torch", { version: "2.8.0" }));
    expect(find({ PATH }, places)).toMatchObject({ source: "python", version: "2.8.0" });
    expect(find({ PATH, LIBTORCH: fake("mine", { version: "2.5.0" }) }, places)).toMatchObject({
      source: "LIBTORCH",
      version: "2.5.0",
    });
  });

  it("passes over a Python whose torch is too old or has no headers", () => {
    expect(find({ PATH: fakePython(fake("old", { version: "1.12.1" })) })).toBeNull();
    expect(find({ PATH: fakePython(join(root, "no-such-folder")) })).toBeNull();
    expect(find({ PATH: fakePython("") })).toBeNull();
  });

  it("follows TESSERA_LIBTORCH or finds none", () => {
    const places = { unpacked: join(root, "unpacked"), system: [join(root, "usr")] };
    fake("usr", { version: "1.13.0" });
    expect(find({ TESSERA_LIBTORCH: "wheel" }, places)).toBeNull();
    fake("unpacked/2.13.0");
    expect(find({ TESSERA_LIBTORCH: "wheel" }, places)).toMatchObject({ source: "unpacked" });
    expect(find({ TESSERA_LIBTORCH: "system" }, places)).toMatchObject({ source: "system" });
    expect(() => find({ TESSERA_LIBTORCH: "both" }, places)).toThrow('TESSERA_LIBTORCH is "both": expected "wheel" or "system"');
  });

  it("never puts another libtorch in the place of a wrong LIBTORCH", () => {
    const places = { system: [fake("usr")] };
    expect(() => find({ LIBTORCH: join(root, "no") }, places)).toThrow("there is no such folder");
    expect(() => find({ LIBTORCH: root }, places)).toThrow("which lacks lib/libtorch_cpu.so and include/ATen/ATen.h");
    expect(() => find({ LIBTORCH: fake("old", { version: "1.10.2" }) }, places)).toThrow(
      "holds libtorch 1.10.2: 1.13.0 or newer",
    );
    fake("zip/libtorch");
    expect(() => find({ LIBTORCH: join(root, "zip") }, places)).toThrow(`set it to ${join(root, "zip/libtorch")}`);
  });
});

it("compares versions by number", () => {
  expect(["2.13.0", "1.13.1", "2.9.0", "2.9"].sort(compareVersions)).toEqual(["1.13.1", "2.9.0", "2.9", "2.13.0"]);
});

it.runIf(run("python3", ["--version"]).ok)("unpacks libraries and headers of a wheel, and nothing else", () => {
  const wheel = join(root, "torch.whl");
  const names = ["torch/lib/libtorch_cpu.so", "torch/lib/libtorch_python.so", "torch/lib/libx.a", "torch/include/ATen/ATen.h"];
  const more = [
    "torch/version.py",
    "torch/nn/modules.py",
    "torch/bin/test_api",
    "torch.libs/libgomp.so.1",
    "torch/lib/../../../evil",
  ];
  const make = "import sys, zipfile\nwith zipfile.ZipFile(sys.argv[1], 'w') as z:\n  [z.writestr(n, n) for n in sys.argv[2:]]";
  expect(run("python3", ["-c", make, wheel, ...names, ...more]).ok).toBe(true);
  const target = join(root, "out", "torch");
  expect(unpackWheel(wheel, target, join(root, "out"))).toMatchObject({ ok: true, stderr: "" });
  const listed = run("find", [join(root, "out"), "-type", "f", "-printf", "%P\n"])
    .stdout.trim()
    .split("\n")
    .sort();
  expect(listed).toEqual([
    "torch.libs/libgomp.so.1",
    "torch/include/ATen/ATen.h",
    "torch/lib/libtorch_cpu.so",
    "torch/version.py",
  ]);
  expect(existsSync(join(root, "evil"))).toBe(false);
});
