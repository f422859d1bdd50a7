// What a recipe is before and after its defaults are filled in.
import type { z } from "zod";
import type { MethodSection } from "../methods/index.js";
import type {
  checkpointSchema,
  dataSchema,
  knnSchema,
  optimizerSchema,
  picturesSchema,
  recipeSchema,
  swinSchema,
  trainSchema,
  vitSchema,
} from "./recipe-schema.js";

/** What a recipe file gives: `data.train` and `method.name` are needed, all else has a default (recipe-schema.ts says which). */
export type RecipeInput = Omit<z.input<typeof recipeSchema>, "method" | "model"> & {
  /** The backbone: a Vision Transformer where no name is given. */
  model?: z.input<typeof vitSchema> | z.input<typeof swinSchema>;
  /** The method and its options. */
  method: MethodSection;
};

export type Channels = 1 | 3;
type Filled<Section, Keys extends keyof Section> = Section & { [Key in Keys]-?: NonNullable<Section[Key]> };

export type DataRecipe = Filled<z.output<typeof dataSchema>, "channels" | "mean" | "std" | "evalSize">;

/** What a section says of the backbone; `size` is still there. */
export type ModelPart = z.output<typeof vitSchema> | z.output<typeof swinSchema>;

/** With the data's channels, this is a `BackboneConfig`. `size` has become numbers and is no longer there. */
export type ModelRecipe =
  | Filled<z.output<typeof vitSchema>, "width" | "depth" | "heads" | "imageSize">
  | Filled<z.output<typeof swinSchema>, "embedDim" | "depths" | "heads" | "imageSize">;

type AnyOptimizer = z.output<typeof optimizerSchema>;
/** Of the options that only some optimisers have, those of this one are there. */
export type OptimizerRecipe = Filled<AnyOptimizer, "lr" | "warmupEpochs" | "weightDecay">;

/** The name and the method's own options, checked and filled by its schema. */
export type MethodRecipe = { name: string } & Record<string, unknown>;

/** A recipe with every default filled in. Plain data: equal to itself after a trip through JSON, and a recipe again. */
export interface Recipe {
  name?: string;
  data: DataRecipe;
  model: ModelRecipe;
  method: MethodRecipe;
  optimizer: OptimizerRecipe;
  train: z.output<typeof trainSchema>;
  checkpoint: z.output<typeof checkpointSchema>;
  knn: Filled<z.output<typeof knnSchema>, "readout">;
  pictures: z.output<typeof picturesSchema>;
}

/** Sections that could be read; the others have problems of their own. */
export interface Parts {
  data?: z.output<typeof dataSchema>;
  model?: ModelPart;
  method?: MethodRecipe;
  optimizer?: AnyOptimizer;
  train?: z.output<typeof trainSchema>;
  knn?: z.output<typeof knnSchema>;
}
