// The inner loops of resampling, blur and colour, ready to call: V8 does not vectorise, and these loops are most of what a training
// image costs. They are WebAssembly SIMD, assembled when the module loads, with the same fixed-point or floating-point steps that scalar
// code would use, so results are exact. They work on a memory of their own, one per thread; whoever calls them lays it out anew
// each time. Loops run in steps of eight pixels and may touch up to 16 bytes past the end of a region, for which `region` leaves room.
import { assemble } from "./assembler.js";
import { blendWithLuma, blendWithValue, turnHue } from "./color-kernels.js";
import { filterColumns, filterGrey, filterRgb, symmetric } from "./filter-kernels.js";

/** Bits of resampling weights: 32 - 8 of the pixel - 2 of headroom for the filters' overshoot, as in Pillow. */
export const FILTER_BITS = 22;

type Kernel = (...numbers: number[]) => void;
interface Kernels {
  readonly filterRgb: Kernel;
  readonly filterGrey: Kernel;
  readonly filterColumns: Kernel;
  readonly blurRows: Kernel;
  readonly blurColumns: Kernel;
  readonly blendWithLuma: Kernel;
  readonly blendWithValue: Kernel;
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
  filterRgb: filterRgb(FILTER_BITS),
  filterGrey: filterGrey(FILTER_BITS),
  filterColumns: filterColumns(FILTER_BITS),
  blurRows: symmetric(true, 7),
  blurColumns: symmetric(false, 23),
  blendWithLuma: blendWithLuma(),
  blendWithValue: blendWithValue(),
  turnHue: turnHue(),
});
/** This thread's kernels. */
export const kernels = new wasm.Instance(new wasm.Module(code), { host: { memory } }).exports as Kernels;

let bytes = new Uint8Array(memory.buffer);
let ints = new Int32Array(memory.buffer);

/** Makes room for `size` bytes, and gives the memory as bytes and as integers. What was there before is lost. */
export function scratch(size: number): { bytes: Uint8Array; ints: Int32Array } {
  const missing = size + 64 - bytes.length;
  if (missing > 0) {
    memory.grow(Math.ceil(missing / PAGE));
    bytes = new Uint8Array(memory.buffer);
    ints = new Int32Array(memory.buffer);
  }
  return { bytes, ints };
}

/** The next multiple of 16, with 16 bytes to spare. */
export function region(size: number): number {
  return ((size + 15) & ~15) + 16;
}
