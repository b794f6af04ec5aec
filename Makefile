# Two commands: `make demo` shows everything, `make test` checks everything.
# A CPU-only torch on Linux: make demo PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PYTHON ?= python3
PIP_FLAGS ?=
BENCH_FLAGS ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup demo test fast lint bench clean

help:            ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

setup: $(READY)  ## make .venv and install the package with its development tools

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "vaegan needs Python 3.11 or newer; set PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup      ## train on the embedded digits (a few minutes), draw everything, write the report
	$(BIN)/vaegan train --data digits --system cvae-gan --minutes 4 --outdir runs/demo
	$(BIN)/vaegan figures runs/demo
	$(BIN)/vaegan report runs/demo

lint: setup      ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fast: setup      ## the tests that take seconds
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow"

test: lint       ## everything: lint, types, the fast tests, then the slow ones
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow"
	$(BIN)/pytest -n 2 --dist worksteal -m slow

bench: setup     ## measure speed and growth, side by side with others (see benchmarks/README.md)
	$(BIN)/python -m benchmarks $(BENCH_FLAGS)

clean:           ## remove the environment and caches (never runs/)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
