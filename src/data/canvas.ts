// The crop in the making. It lies in the kernels' memory from the resampling to the last change of colour, so that each step is one pass
// over it, and is copied out once.
import { memoryFrom, region } from "./kernels.js";

/** Planes of height x width bytes, `step` bytes apart from `address` on. */
export interface Canvas {
  readonly channels: 1 | 3;
  readonly height: number;
  readonly width: number;
  /** Pixels of a plane. */
  readonly plane: number;
  readonly address: number;
  readonly step: number;
  /** Where the memory is free for whoever works on the canvas. */
  readonly end: number;
}

/** A canvas at an address of the kernels' memory (default 0); what it shows is whatever lies there. */
export function createCanvas(channels: 1 | 3, height: number, width: number, address = 0): Canvas {
  const plane = height * width;
  // Kernels write up to 16 pixels at a time: where rows are no multiple of that, planes need room between them.
  const step = width % 16 === 0 ? plane : region(plane);
  const end = address + region(channels * step);
  memoryFrom(end, 0);
  return { channels, height, width, plane, address, step, end };
}

/** Copies contiguous planes from `data` at `at` to the canvas. */
export function drawOn({ channels, plane, address, step, end }: Canvas, data: Uint8Array, at: number): void {
  const { bytes } = memoryFrom(end, 0);
  if (step === plane) bytes.set(data.subarray(at, at + channels * plane), address);
  else for (let c = 0; c < channels; c++) bytes.set(data.subarray(at + c * plane, at + (c + 1) * plane), address + c * step);
}

/** Copies the canvas to contiguous planes in `out` at `at`. */
export function copyOut({ channels, plane, address, step, end }: Canvas, out: Uint8Array, at: number): void {
  const { bytes } = memoryFrom(end, 0);
  if (step === plane) out.set(bytes.subarray(address, address + channels * plane), at);
  else for (let c = 0; c < channels; c++) out.set(bytes.subarray(address + c * step, address + c * step + plane), at + c * plane);
}

/** Works on planes that lie elsewhere: copies them in, and out again. */
export function onCanvas(
  data: Uint8Array,
  at: number,
  height: number,
  width: number,
  channels: 1 | 3,
  work: (canvas: Canvas) => void,
): void {
  const canvas = createCanvas(channels, height, width);
  drawOn(canvas, data, at);
  work(canvas);
  copyOut(canvas, data, at);
}
