import { defineConfig } from "vitest/config";

export default defineConfig({
  // No test asserts a time: this only ends one that hangs, also on a machine that is busy with other work.
  test: { testTimeout: 300_000, hookTimeout: 300_000, setupFiles: ["tests/setup.ts"] },
});
