// What a run does with SIGINT and SIGTERM.
import { afterEach, expect, it, vi } from "vitest";
import { listenForStop } from "./signals.js";

afterEach(() => vi.restoreAllMocks());

it.each(["SIGINT", "SIGTERM"] as const)(
  "%s asks once, a second signal ends the process with 130, release gives both back",
  (signal) => {
    const exit = vi.spyOn(process, "exit").mockImplementation(() => {
      throw new Error("the process ended");
    });
    const listeners = process.listenerCount(signal);
    const told: string[] = [];
    const stop = listenForStop((name) => told.push(name));
    expect(stop.requested()).toBe(false);
    process.emit(signal, signal);
    expect(stop.requested()).toBe(true);
    expect(told).toEqual([signal]);
    expect(exit).not.toHaveBeenCalled();
    expect(() => process.emit("SIGINT", "SIGINT")).toThrow("the process ended");
    expect(exit).toHaveBeenCalledWith(130);
    expect(told).toEqual([signal]);
    stop.release();
    expect(process.listenerCount(signal)).toBe(listeners);
  },
);
