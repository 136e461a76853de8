# Everything a stranger needs: make demo. Needs Python 3.11 or newer, make, and a package index for the first run.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := $(wildcard constraints.txt)
SOAK_RUNS ?= 200
# By the cores and the free memory (tests/harness/distribution.py). Runners of others say little about both.
TEST_PROCESSES ?= $(if $(CI),5,auto)
# uv reads none of pip's settings: wheels that this machine keeps are found by both, a smaller build of torch say.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
# Set in many containers. Empty, Python keeps what it compiled: without, each start of a service takes twice the CPU time.
export PYTHONDONTWRITEBYTECODE :=

comma := ,

# Runners of others stop for seconds at a time, and then a wait in a test ends too early. So in CI a few tests that failed
# run a second time, one after the other. Both results are printed: what fails only beside others is still to be mended.
MOST_SECOND_RUNS := 12
define second_run
$(BIN)/python -c 'import json, sys; failed = json.load(open(".pytest_cache/v/cache/lastfailed")); \
	print(f"second run of {len(failed)} tests that failed:", *failed, sep="\n  "); \
	sys.exit(len(failed) > $(MOST_SECOND_RUNS))' \
	&& $(BIN)/python -m pytest -q --last-failed --last-failed-no-failures none
endef

.DEFAULT_GOAL := help
.PHONY: help demo demo-badminton demo-live demo-nerf demo-watch up up-all install test lint docs bench soak release-check clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.embedded ## Render two laps, compare them, show the result next to the ground truth
	@$(BIN)/saccade demo $(ARGS)

demo-badminton: $(VENV)/.embedded ## Render a minute of a badminton match, analyse it, show the result next to the ground truth
	@$(BIN)/saccade demo badminton $(ARGS)

demo-live: $(VENV)/.splat ## Turn the camera frames of a virtual robot arm into a splat, live
	@$(BIN)/saccade demo live $(ARGS)

demo-nerf: $(VENV)/.nerf ## Turn rendered photos of a toy into a 3D model and transparent frames
	@$(BIN)/saccade demo nerf $(ARGS)

demo-watch: $(VENV)/.vision ## Have a small vision-language model say what a virtual arm does, and check its words
	@$(BIN)/saccade demo watch $(ARGS)

up: $(VENV)/.embedded ## Run the whole system on this machine until Ctrl-C, with the workloads that are installed
	@$(BIN)/saccade up $(ARGS)

up-all: $(VENV)/.nerf ## The same with every workload; the first time, it installs PyTorch and pycolmap
	@$(BIN)/saccade up $(ARGS)

install: $(VENV)/.embedded ## Install into .venv what demo and up need

test: lint ## Lint, type check, import rules and all tests
	@$(BIN)/python -m pytest -q -n $(TEST_PROCESSES) $(ARGS); code=$$?; \
		if [ $$code = 1 ] && [ -n "$(CI)" ]; then $(second_run); code=$$?; fi; exit $$code

lint: $(VENV)/.dev ## Lint, type check and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev ## Run the measurements
	@for file in $$(grep -l '^needs(' bench/*.py); do echo "== $$file"; code=0; \
		PYTHONPATH=. WORKER_CATALOG=tests.workers $(BIN)/python $$file || code=$$?; \
		[ $$code = 0 ] || [ $$code = 77 ] || exit $$code; done

docs: $(VENV)/.dev ## Generate the pages of events, errors, routes and settings, AsyncAPI, schemas and the blocking Python client
	$(BIN)/python docs/generate.py
	$(BIN)/python clients/python/generate_sync.py

# Suites of what reads and writes streams: make soak runs them over three nats-servers too.
CLUSTER_SUITES := tests/contract/kit tests/contract/reactions tests/contract/callbacks tests/contract/history \
	tests/contract/gateway tests/contract/streams tests/flow

soak: $(VENV)/.dev ## Kill processes at random for a long time, and run suites over a cluster; SOAK_RUNS=200
	$(BIN)/python -m pytest -q -m "soak or share" --soak-runs $(SOAK_RUNS) $(ARGS)
	$(BIN)/python -m pytest -q -m "not soak" --real-starts tests/system
	$(BIN)/python -m pytest -q -m "not soak" --cluster -n 2 $(CLUSTER_SUITES)

release-check: $(VENV)/.dev ## Build what a release publishes into build/release, and look into each file
	@rm -rf build/release && $(BIN)/python -m deploy.release --out build/release $(TAG:%=--tag %)

clean: ## Remove the virtual environment and caches; data in .saccade stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build *.egg-info

# uv installs in seconds; where it cannot, pip does the same, slower.
define install
	@$(BIN)/python -c 'import pathlib, sys; sys.exit(not pathlib.Path("$(BIN)/uv").exists())' \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS:%=-c %) uv || true
	@echo "Installing saccade-server[$(1)] ..."
	@$(BIN)/uv pip install --quiet --python $(BIN)/python $(CONSTRAINTS:%=-c %) -e '.[$(1)]' 2> $(VENV)/uv.log \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS:%=-c %) -e '.[$(1)]' \
		|| { cat $(VENV)/uv.log; \
		     echo "error: the packages could not be installed (install_failed)"; \
		     echo "  hint: check the connection to the package index, then run make again"; exit 1; }
	@touch $@
endef

$(VENV)/.embedded: $(VENV)/.made pyproject.toml $(CONSTRAINTS)
	$(call install,embedded)

$(VENV)/.splat: $(VENV)/.made pyproject.toml $(CONSTRAINTS)
	$(call install,embedded$(comma)splat)
	@touch $(VENV)/.embedded

$(VENV)/.vision: $(VENV)/.made pyproject.toml $(CONSTRAINTS)
	$(call install,embedded$(comma)vision-stream)
	@touch $(VENV)/.embedded

$(VENV)/.nerf: $(VENV)/.made pyproject.toml $(CONSTRAINTS)
	$(call install,embedded$(comma)all)
	@touch $(VENV)/.embedded $(VENV)/.splat $(VENV)/.vision

$(VENV)/.dev: $(VENV)/.made pyproject.toml $(CONSTRAINTS)
	$(call install,dev)
	@touch $(VENV)/.embedded $(VENV)/.splat $(VENV)/.vision $(VENV)/.nerf

$(VENV)/.made:
	@command -v $(PYTHON) > /dev/null || { \
		echo "error: there is no $(PYTHON) (python_missing)"; \
		echo "  hint: install Python 3.11 or newer, or name yours: make PYTHON=/path/to/python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: Saccade needs Python 3.11 or newer, and $(PYTHON) is older (python_too_old)"; \
		echo "  hint: name a newer one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { \
		echo "error: $(PYTHON) comes without venv (venv_missing)"; \
		echo "  hint: on Debian and Ubuntu: sudo apt install python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@
