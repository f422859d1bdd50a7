// The door of the evaluators.
export * from "./errors.js";
export * from "./features.js";
export * from "./knn.js";
export { type NearestOptions, type Neighbors, nearestNeighbors } from "./neighbors.js";
export * from "./online.js";
