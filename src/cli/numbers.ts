// Numbers in options, and what is said of those that are none.
import { UsageError } from "./errors.js";

/** A whole number of at least `least`. */
export function whole(option: string, text: string, least = 1): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isInteger(value) || value < least)
    throw new UsageError(`${option} is "${text}"; expected a whole number, ${least} or more`);
  return value;
}

export function positive(option: string, text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !(value > 0) || !Number.isFinite(value))
    throw new UsageError(`${option} is "${text}"; expected a number above 0`);
  return value;
}

export function notNegative(option: string, text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !(value >= 0) || !Number.isFinite(value))
    throw new UsageError(`${option} is "${text}"; expected a number, 0 or more`);
  return value;
}

/** What was given, read; undefined where nothing was. */
export const given = <T>(value: string | undefined, read: (text: string) => T): T | undefined =>
  value === undefined ? undefined : read(value);

/** Several by commas. */
export function listed(option: string, text: string, read: (option: string, text: string) => number): number[] {
  return text.split(",").map((each) => read(option, each));
}

/** A share of 1 as percent. */
export const percent = (share: number) => `${(100 * share).toFixed(2)} %`;
