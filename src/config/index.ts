// The door of src/config: options from files and the command line, checked by a schema that tells all problems at once.
export * from "./issues.js";
export { applyOverrides } from "./overrides.js";
export { leavesOf, resolveSettings } from "./settings.js";
