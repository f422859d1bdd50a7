# Two commands matter: `make demo` and `make test`. Both set up what is missing first.
# Environment: LIBTORCH=DIR (a libtorch of your own), TESSERA_LIBTORCH=wheel|system, FASHION_MNIST=DIR, CXX, PYTHON (a Python with torch, for bench).

METHOD ?= mst
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup build test test-engine demo bench lint types fix clean node packages

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: node ## find or get libtorch, install npm packages, compile; quick when nothing changed
	@node scripts/setup.mjs

demo: setup ## pre-train on Fashion-MNIST, evaluate, write pictures (METHOD=mst, ARGS="--more options")
	@folder="$$(node scripts/get-fashion-mnist.mjs)" && FASHION_MNIST="$$folder" node bin/tessera.js demo --method $(METHOD) $(ARGS)

test: node ## set-up, lint, types, import rule, all tests
	@node scripts/test.mjs $(ARGS)

test-engine: node ## set-up and the tests of what touches libtorch (to prove another one: LIBTORCH=DIR make test-engine)
	@node scripts/test.mjs --engine

bench: setup ## Tessera beside PyTorch (PYTHON=..., needs a Python with torch; ARGS="--help" lists all measurements)
	@node bin/tessera.js bench $(or $(ARGS),compare --write)

build: packages ## compile the native addon and the TypeScript only
	@node scripts/build-native.mjs && node scripts/build-ts.mjs

lint: packages ## Biome and the import rule
	@node_modules/.bin/biome check --error-on-warnings . && node scripts/check-imports.mjs

types: packages ## the TypeScript compiler over everything
	@node scripts/build-ts.mjs && node_modules/.bin/tsc --noEmit -p tsconfig.json

fix: packages ## let Biome format and repair
	@node_modules/.bin/biome check --write .

clean: ## remove what was built (node_modules and .libtorch stay)
	@rm -rf build dist coverage

packages: node
	@node scripts/dependencies.mjs

node:
	@command -v node > /dev/null || { echo "setup: Node is not on this machine: install Node 20 or newer (https://nodejs.org/en/download)." >&2; exit 1; }
