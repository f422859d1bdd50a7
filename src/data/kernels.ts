// The inner loops of resampling, blur and colour, ready to call: V8 does not vectorise, and these loops are most of what a training
// image costs. They are WebAssembly SIMD, assembled when the module loads, with the same fixed-point or floating-point steps that scalar
// code would use. They work on a memory of their own, one per thread: an image, the crop that is made of it (canvas.ts), and behind
// them what a step needs. Loops run in steps of eight or 16 pixels and may touch up to 16 bytes past the end of a region, for which
// `region` leaves room.
import { assemble } from "./assembler.js";
import { blendWithLuma, blendWithValue, solarize, sumLuma, toLuma, turnHue } from "./color-kernels.js";
import { blurColumns, blurRows, filterColumns, filterGrey, filterRgb, padRows } from "./filter-kernels.js";

type Kernel = (...numbers: number[]) => void;
interface Kernels {
  readonly filterRgb: Kernel;
  readonly filterGrey: Kernel;
  readonly filterColumns: Kernel;
  readonly padRows: Kernel;
  readonly blurRows: Kernel;
  readonly blurColumns: Kernel;
  readonly blendWithLuma: Kernel;
  readonly blendWithValue: Kernel;
  readonly toLuma: Kernel;
  readonly sumLuma: Kernel;
  readonly solarize: Kernel;
  readonly turnHue: Kernel;
}

/** What is used of the WebAssembly interface; TypeScript has it among the browser's types only. */
interface WebAssemblyApi {
  Memory: new (size: { initial: number }) => { readonly buffer: ArrayBuffer; grow(pages: number): number };
  Module: new (code: Uint8Array) => object;
  Instance: new (module: object, imports: object) => { readonly exports: unknown };
}
const wasm = (globalThis as unknown as { WebAssembly: WebAssemblyApi }).WebAssembly;

const PAGE = 65536;
const memory = new wasm.Memory({ initial: 16 });
const code = assemble({
  filterRgb: filterRgb(),
  filterGrey: filterGrey(),
  filterColumns: filterColumns(),
  padRows: padRows(),
  blurRows: blurRows(),
  blurColumns: blurColumns(),
  blendWithLuma: blendWithLuma(),
  blendWithValue: blendWithValue(),
  toLuma: toLuma(),
  sumLuma: sumLuma(),
  solarize: solarize(),
  turnHue: turnHue(),
});
/** This thread's kernels. */
export const kernels = new wasm.Instance(new wasm.Module(code), { host: { memory } }).exports as Kernels;

/** The kernels' memory in all the forms in which JavaScript looks at it. */
export interface KernelMemory {
  readonly bytes: Uint8Array;
  readonly words: Int16Array;
  readonly ints: Int32Array;
}

function viewsOfMemory(): KernelMemory {
  const { buffer } = memory;
  return { bytes: new Uint8Array(buffer), words: new Int16Array(buffer), ints: new Int32Array(buffer) };
}
let views = viewsOfMemory();

/** The memory, with room for `size` bytes from `start` on. What lies there stays; views that were given before may have become empty. */
export function memoryFrom(start: number, size: number): KernelMemory {
  const missing = start + size + 64 - views.bytes.length;
  if (missing > 0) {
    memory.grow(Math.ceil(missing / PAGE));
    views = viewsOfMemory();
  }
  return views;
}

/** The next multiple of 16, with 16 bytes to spare. */
export function region(size: number): number {
  return ((size + 15) & ~15) + 16;
}
