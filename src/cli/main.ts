// The command line: `tessera COMMAND`. Commands load what they need when they run, so that help, version and doctor are quick and work where
// the engine does not.
import { Command, CommanderError, Help } from "commander";
import { registerBench } from "./bench.js";
import { registerData } from "./data.js";
import { registerDemo } from "./demo.js";
import { registerDoctor } from "./doctor.js";
import { EXIT, tellError } from "./errors.js";
import { registerEvaluate } from "./evaluate.js";
import { registerPretrain } from "./pretrain.js";
import { manifest } from "./project.js";
import { registerShow } from "./show.js";
import { registerStudy } from "./study.js";

const overview = `
Examples:
  $ tessera doctor                                     what was found, what is missing and how to get it
  $ tessera demo                                       pre-train MST on Fashion-MNIST, evaluate, draw pictures
  $ tessera pretrain recipe.ts --set train.epochs=50   train by a recipe
  $ tessera evaluate knn --weights runs/mine --data cifar10:DIR
  $ tessera COMMAND --help                             the options of a command

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted with a checkpoint written. TESSERA_DEBUG=1 shows the stack of an error.`;

/** All commands. Each sets the exit code it ends with by returning it from its action. */
export function createProgram(setExit: (code: number) => void = () => {}): Command {
  const program = new Command("tessera")
    .description(manifest.description)
    .version(manifest.version, "-V, --version", "print the version")
    .helpOption("-h, --help", "print this help")
    .addHelpText("after", overview)
    .configureHelp({ helpWidth: 110, sortSubcommands: false, subcommandTerm: shortTerm })
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, "tessera: ")) })
    .showHelpAfterError("(tessera --help lists the commands, tessera COMMAND --help a command's options)")
    .enablePositionalOptions()
    .exitOverride();
  for (const register of [
    registerPretrain,
    registerEvaluate,
    registerStudy,
    registerShow,
    registerDemo,
    registerData,
    registerDoctor,
    registerBench,
  ])
    register(program, setExit);
  return program;
}

/** In the list of commands the arguments only; `[options]` is said of all of them. */
function shortTerm(command: Command): string {
  return Help.prototype.subcommandTerm.call(new Help(), command).replace(" [options]", "");
}

/** Runs a command line and returns the exit code. Nothing is thrown. */
export async function run(args: readonly string[]): Promise<number> {
  quietOnClosedPipe();
  process.on("uncaughtException", (error) => process.exit(tellError(error)));
  let code: number = EXIT.done;
  try {
    await createProgram((given) => {
      code = given;
    }).parseAsync([...args], { from: "user" });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage; // commander has said it already
    return tellError(error);
  }
}

/** `tessera ... | head` closes the pipe early: that is no failure. */
function quietOnClosedPipe(): void {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(EXIT.done);
    throw error;
  });
}
