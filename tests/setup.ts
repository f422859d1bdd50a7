// Tests that compute do so without a pause, and vitest gives up on a worker that does not answer for a minute: after each test it may.
import { afterEach } from "vitest";

afterEach(() => new Promise<void>((settle) => setImmediate(settle)));
