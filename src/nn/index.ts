// The door of the building blocks: Module, layers and initialisers.
export * from "./activation.js";
export * from "./attention.js";
export * from "./conv.js";
export * from "./cross-attention.js";
export * from "./dropout.js";
export * from "./errors.js";
export * as init from "./init.js";
export * from "./layer-scale.js";
export * from "./linear.js";
export * from "./mlp.js";
export * from "./module.js";
export * from "./norm.js";
export * from "./parameter.js";
export * from "./residual.js";
export * from "./sequential.js";
