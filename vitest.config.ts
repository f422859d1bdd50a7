import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    // No test asserts a time: this only ends one that hangs, also on a machine that is busy with other work.
    testTimeout: 300_000,
    hookTimeout: 300_000,
    setupFiles: ["tests/setup.ts"],
    // Test files share the cores with each other: threads that spin for work would take them away.
    env: { GOMP_SPINCOUNT: process.env.GOMP_SPINCOUNT ?? "0" },
  },
});
