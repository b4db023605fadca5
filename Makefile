# Each target sets up what it needs by itself; nothing is fetched but Python packages, pinned with their hashes.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)

# With no uv on the PATH, the venv's own pip does the same from the same locks.
ifeq ($(UV),)
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check
else
INSTALL = $(UV) pip install --quiet --python $(BIN)/python
endif
LOCKED = --require-hashes --no-build-isolation

.PHONY: help
help: ## Say what can be made.
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  \1\t/' | expand -t 10

# --- environment ----------------------------------------------------------------------------------------------------

.PHONY: setup
setup: $(VENV)/.stamp-dev $(VENV)/.stamp-tree ## Install everything for development; and git hooks, if this is a git clone.
	@if [ -d .git ] && command -v git >/dev/null; then $(BIN)/pre-commit install >/dev/null && echo "git hooks installed"; fi
	@echo "ready: $(BIN)/medtrail --help"

$(VENV)/.stamp-venv:
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is missing: install Python 3.11 or later, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(PYTHON) is $$($(PYTHON) -V 2>&1), 3.11 or later is needed: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@[ -n "$(UV)" ] || $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "make: the venv module is missing: install python3-venv (Debian, Ubuntu) or put uv on the PATH" >&2; exit 1; }
	@[ -x $(BIN)/python ] || { echo "making $(VENV)"; if [ -n "$(UV)" ]; then $(UV) venv --quiet --python $(PYTHON) $(VENV); else $(PYTHON) -m venv $(VENV); fi; }
	@touch $@

# First what builds, so that the one package published as source only is built by a locked backend.
$(VENV)/.stamp-build: requirements/build.lock $(VENV)/.stamp-venv
	@$(INSTALL) $(LOCKED) --only-binary :all: -r requirements/build.lock
	@touch $@

$(VENV)/.stamp-runtime: requirements/runtime.lock $(VENV)/.stamp-build
	@echo "installing what running needs (requirements/runtime.lock)"
	@$(INSTALL) $(LOCKED) -r requirements/runtime.lock
	@touch $@

$(VENV)/.stamp-dev: requirements/dev.lock $(VENV)/.stamp-build
	@echo "installing what development needs (requirements/dev.lock)"
	@$(INSTALL) $(LOCKED) -r requirements/dev.lock
	@touch $@

# The tree itself, editable.
$(VENV)/.stamp-tree: pyproject.toml | $(VENV)/.stamp-build
	@$(INSTALL) --no-deps --no-build-isolation --no-index --editable .
	@touch $@

# --- running --------------------------------------------------------------------------------------------------------

# The GS1 US example where its real document lies beside the project; else the demo's own equivalent.
EXAMPLE := $(wildcard ../shared/data/openepcis-test-resources/1.2/EPCIS/XML/Capture/Documents/GS1_US_Pharma_Example_2_2_1_1.xml)

.PHONY: demo
demo: $(VENV)/.stamp-runtime $(VENV)/.stamp-tree ## Show the whole job on real input, from signed event to verified proof.
	@$(BIN)/medtrail --dir build/demo demo $(if $(EXAMPLE),--example $(EXAMPLE))

.PHONY: test
test: $(VENV)/.stamp-dev $(VENV)/.stamp-tree ## Run all tests, with the coverage gates.
	@mkdir -p build
	@$(BIN)/python -m pytest --cov --cov-config=pyproject.toml --cov-report= --cov-report=json:build/coverage.json
	@$(BIN)/python tools/coverage_gate.py build/coverage.json

.PHONY: fuzz
fuzz: $(VENV)/.stamp-dev $(VENV)/.stamp-tree ## Fuzz every parser, SECONDS_EACH=600; what is found lies in build/fuzz.
	@for target in epcis_json epcis_xml element_string signed_note payload; do \
		echo "fuzzing $$target"; $(BIN)/python -m tests.fuzz.fuzz $$target --seconds $${SECONDS_EACH:-600} || exit 1; done

.PHONY: bench
bench: $(VENV)/.stamp-dev $(VENV)/.stamp-tree ## Measure, and print the figures.
	@$(BIN)/python -m tests.bench.bench

# --- checking -------------------------------------------------------------------------------------------------------

.PHONY: check
check: lint ## Check style, types, imports, contracts, and that generated code and locks are up to date.
	@$(BIN)/python tools/check_locks.py
	@$(BIN)/python tools/protos.py --check

.PHONY: lint
lint: $(VENV)/.stamp-dev $(VENV)/.stamp-tree ## Check style, types, imports and contracts.
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@cd protos && ../$(BIN)/buf lint

.PHONY: fmt
fmt: $(VENV)/.stamp-dev ## Format the code and mend what can be mended mechanically.
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format
	@cd protos && ../$(BIN)/buf format --write

# --- making ---------------------------------------------------------------------------------------------------------

.PHONY: protos
protos: $(VENV)/.stamp-dev ## Regenerate medtrail/api from protos/.
	@$(BIN)/python tools/protos.py

.PHONY: images
images: $(VENV)/.stamp-dev ## Build the container images of deploy/images (IMAGES=name: one) with podman and mmdebstrap.
	@$(BIN)/python tools/images.py $(IMAGES)

COMPILE = pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	--custom-compile-command "make lock" --quiet

LOCKER = $(if $(UV),$(UV),$(BIN)/uv)

.PHONY: lock
lock: $(VENV)/.stamp-venv ## Renew requirements/*.lock from pyproject.toml; LOCK=--upgrade takes newer versions.
	@[ -n "$(UV)" ] || [ -x $(BIN)/uv ] || $(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.13.8'
	@$(LOCKER) $(COMPILE) $(LOCK) pyproject.toml --group build --group dev --output-file requirements/dev.lock
	@$(LOCKER) $(COMPILE) $(LOCK) pyproject.toml --constraint requirements/dev.lock --output-file requirements/runtime.lock
	@$(LOCKER) $(COMPILE) $(LOCK) --group build --constraint requirements/dev.lock --output-file requirements/build.lock

.PHONY: clean
clean: ## Remove the venv and everything that was made.
	rm -rf $(VENV) build dist .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
