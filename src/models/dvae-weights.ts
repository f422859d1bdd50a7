// d-VAE tokenizers from files. The architecture is read off the shapes, so that released weights, which say nothing of it, load like ours.
import { readSafetensors, type Tensor, tidy } from "../torch/index.js";
import { WeightsError } from "./checkpoint-names.js";
import { Dvae, type DvaeConfig, dvaeDefaults } from "./dvae.js";

/** Where a file may keep a tokenizer: this library's exports, its checkpoints, and an encoder alone under the names of DALL-E's module. */
const places = [
  { at: "encoder.blocks.", strip: "" },
  { at: "method.averaged.encoder.blocks.", strip: "method.averaged." },
  { at: "method.encoder.blocks.", strip: "method." },
  { at: "blocks.", strip: "", add: "encoder." },
];

/** A d-VAE's tensors by the names `encoder.blocks.*` and `decoder.blocks.*`. @throws WeightsError where there are none */
export function tokenizerTensors(tensors: ReadonlyMap<string, Tensor>): Map<string, Tensor> {
  const place = places.find(({ at }) => tensors.has(`${at}input.w`) && tensors.get(`${at}input.w`)!.size(-1) > 1);
  if (!place) {
    const some = [...tensors.keys()].slice(0, 5).join(", ");
    throw new WeightsError(
      `the file has no encoder.blocks.input.w, which a d-VAE tokenizer by DALL-E's names has; it has ${some || "nothing"}${some && ", ..."}`,
    );
  }
  const { strip, add = "" } = place;
  const named = [...tensors].flatMap(([name, tensor]): [string, Tensor][] =>
    name.startsWith(strip) ? [[`${add}${name.slice(strip.length)}`, tensor]] : [],
  );
  return new Map(named.filter(([name]) => /^(encoder|decoder)\.blocks\./.test(name)));
}

/** The architecture that these tensors have. @throws WeightsError where their names do not make one */
export function inferDvaeConfig(own: ReadonlyMap<string, Tensor>): { config: Required<DvaeConfig>; decoder: boolean } {
  const size = (name: string, dim: number): number => {
    const tensor = own.get(name);
    if (tensor?.shape.length === 4) return tensor.size(dim);
    throw new WeightsError(
      tensor
        ? `${name} has the shape [${tensor.shape.join(", ")}]; expected the four dimensions of a convolution`
        : `the d-VAE in the file is not complete: it has no ${name}`,
    );
  };
  const highest = (pattern: RegExp) => Math.max(0, ...[...own.keys()].map((name) => Number(pattern.exec(name)?.[1] ?? 0)));
  const decoder = [...own.keys()].some((name) => name.startsWith("decoder."));
  const [width, groups] = [size("encoder.blocks.input.w", 0), highest(/^encoder\.blocks\.group_(\d+)\./)];
  const last = size("encoder.blocks.output.conv.w", 1);
  if (width % 4 !== 0 || last !== width * 2 ** (groups - 1)) {
    throw new WeightsError(
      `the d-VAE's encoder goes from ${width} to ${last} channels in ${groups} groups; expected a multiple of 4 that doubles from group to group`,
    );
  }
  return {
    config: {
      channels: size("encoder.blocks.input.w", 1),
      width,
      groups,
      blocksPerGroup: highest(/^encoder\.blocks\.group_1\.block_(\d+)\./),
      vocabulary: size("encoder.blocks.output.conv.w", 0),
      decoderWidth: decoder ? size("decoder.blocks.output.conv.w", 1) : dvaeDefaults.decoderWidth,
      decoderInit: decoder ? size("decoder.blocks.input.w", 0) : dvaeDefaults.decoderInit,
    },
    decoder,
  };
}

/**
 * The tokenizer that a safetensors file holds: an export or checkpoint of this library, or DALL-E's released weights once converted
 * (docs/methods/tokenizer.md). A file with the encoder alone gives a tokenizer that cannot decode.
 *
 * @throws WeightsError that says what is wrong with the file; SafetensorsError where it cannot be read
 */
export function loadTokenizer(path: string): Dvae {
  return tidy(() => {
    const { tensors } = readSafetensors(path);
    try {
      const own = tokenizerTensors(tensors);
      const { config, decoder } = inferDvaeConfig(own);
      const tokenizer = new Dvae(config, { decoder });
      tokenizer.loadStateDict(own);
      return tokenizer.requiresGrad_(false).eval();
    } catch (cause) {
      throw new WeightsError(`${path} holds no tokenizer: ${(cause as Error).message}`, { cause });
    }
  });
}
