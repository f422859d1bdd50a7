// What must and must not compile for users. `make types` is the test: it reads the declarations that the build made.
import {
  type ConfigIssue,
  defineRecipe,
  type loadRecipe,
  type pretrain,
  type Recipe,
  type RecipeInput,
  type RunSummary,
  type resolveRecipe,
  type SwinConfig,
  type Tensor,
  type tidy,
  type VisionTransformer,
  type VitConfig,
} from "tessera";
import { createLoader, type Dataset, type openDataset } from "tessera/data";
import type { KnnEvaluation, knn } from "tessera/evaluate";
import { defineMethod, type Method, type methodNamed, registerMethod } from "tessera/methods";
import type { Encoder, loadVit } from "tessera/models";
import type { Linear, Module } from "tessera/nn";
import type { AdamW, Optimizer } from "tessera/optim";
import type { Tensor as TensorClass } from "tessera/torch";
import { type Recipe as RecipeOfTrain, RunFolder } from "tessera/train";

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
type Extends<A, B> = A extends B ? true : false;
const holds = <_T extends true>(): void => {};

const data = { train: "fashion-mnist" };

// Recipes: every section is optional but data and method; options are those of the method named.
defineRecipe({ data, method: { name: "dino" } });
defineRecipe({ data, method: { name: "mst", mask: "random", dino: { crops: { globalSize: 28 }, momentum: 0.99 } } });
defineRecipe({ data, method: { name: "dino" }, optimizer: { weightDecay: { from: 0.04, to: 0.4 }, betas: [0.9, 0.95] } });
defineRecipe({ data, method: { name: "dino" }, knn: { k: [10, 20], readout: "class+mean" }, model: { imageSize: [32, 64] } });
// @ts-expect-error data is needed
defineRecipe({ method: { name: "dino" } });
// @ts-expect-error so is method
defineRecipe({ data });
// @ts-expect-error no such method
defineRecipe({ data, method: { name: "dinos" } });
// @ts-expect-error an option of mst, not of dino
defineRecipe({ data, method: { name: "dino", lambda2: 1 } });
// @ts-expect-error an option of the framework below, which has its own section
defineRecipe({ data, method: { name: "mst", momentum: 0.99 } });
// @ts-expect-error not one of the values
defineRecipe({ data, method: { name: "mst", mask: "attn" } });
// @ts-expect-error a typo deep inside
defineRecipe({ data, method: { name: "mst", dino: { head: { outFeature: 1024 } } } });
// @ts-expect-error not a key of the section
defineRecipe({ data, method: { name: "dino" }, optimizer: { learningRate: 1e-3 } });
// @ts-expect-error a text where a number is needed
defineRecipe({ data, method: { name: "dino" }, train: { epochs: "100" } });
// @ts-expect-error the channels are the data's
defineRecipe({ data, method: { name: "dino" }, model: { channels: 1 } });

// A resolved recipe has its defaults, and is itself a recipe's input as far as types can tell.
declare const recipe: Recipe;
holds<Equal<Recipe, RecipeOfTrain>>();
holds<Equal<ReturnType<typeof resolveRecipe>, Recipe>>();
holds<Equal<ReturnType<typeof defineRecipe>, RecipeInput>>();
holds<Equal<typeof recipe.optimizer.lr, number>>();
holds<Equal<Model<"vit">["width"], number>>();
holds<Equal<typeof recipe.data.mean, number[]>>();
holds<Equal<typeof recipe.data.channels, 1 | 3>>();
holds<Equal<Awaited<ReturnType<typeof loadRecipe>>, Recipe>>();
holds<Extends<Omit<Recipe, "method">, Omit<RecipeInput, "method">>>();

// Every field of a backbone's configuration can be set by a recipe, except the channels, and what evaluations add: biases by relative position,
// windows; and a model section is such a configuration.
type Model<Name> = Omit<Extract<Recipe["model"], { name: Name }>, "name" | "size">;
holds<Equal<Exclude<keyof VitConfig, keyof Model<"vit">>, "channels" | "relPosBias" | "windowSize" | "globalBlocks">>();
holds<Equal<Exclude<keyof Model<"vit">, keyof VitConfig>, never>>();
holds<Extends<Model<"vit">, VitConfig>>();
holds<Equal<Exclude<keyof SwinConfig, keyof Model<"swin">>, "channels">>();
holds<Equal<Exclude<keyof Model<"swin">, keyof SwinConfig>, never>>();
holds<Extends<Model<"swin">, SwinConfig>>();

// The doors.
holds<Equal<Awaited<ReturnType<typeof pretrain>>, RunSummary>>();
holds<Equal<RunSummary["status"], "done" | "interrupted">>();
holds<Equal<ConfigIssue, { readonly path: string; readonly message: string }>>();
holds<Equal<InstanceType<typeof TensorClass>, Tensor>>();
holds<Extends<VisionTransformer, Encoder>>();
holds<Extends<VisionTransformer, Module>>();
holds<Extends<Linear, Module>>();
holds<Extends<AdamW, Optimizer>>();
holds<Equal<Awaited<ReturnType<typeof openDataset>>, Dataset>>();
holds<Equal<ReturnType<ReturnType<typeof methodNamed>["create"]>, Method>>();
holds<Equal<ReturnType<typeof loadVit>["encoder"], VisionTransformer>>();
holds<Extends<KnnEvaluation["bank"], number>>();

// Functions keep the types they are given.
holds<Equal<ReturnType<typeof tidy<number>>, number>>();
holds<Extends<typeof knn, (options: never) => { top1: Record<number, number> }>>();
void [createLoader, defineMethod, registerMethod, RunFolder];

// A method of one's own, by declaration merging.
declare module "tessera/methods" {
  interface MethodOptions {
    mine: { weight?: number };
  }
}
defineRecipe({ data, method: { name: "mine", weight: 2 } });
// @ts-expect-error not an option of it
defineRecipe({ data, method: { name: "mine", wait: 2 } });
