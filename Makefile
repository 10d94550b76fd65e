# Everything a fresh clone needs: python3, make and git. The environment lives in .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install quickstart smoke benchmarks docs options lint test test-slow test-gpu clean

install: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

quickstart: install  ## distil the digits in three stages and compare with the baselines
	$(BIN)/pdd-cli run --config configs/quickstart/stage.yaml

smoke: install  ## a two-stage run in under half a minute
	$(BIN)/pdd-cli run --config configs/smoke/stage.yaml

benchmarks: install  ## time everything against the usual way, on all cores and nothing else running
	$(BIN)/python benchmarks/all.py --json

docs: install  ## the pages of docs/ as a site in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

options: install  ## write what --help says anew, after a change of options
	$(BIN)/python -m pdd_lightning.cli.inventory

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint  ## lint, types and the default tests
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder # whole commands, in tests/cli, come first

test-slow: install
	$(BIN)/pytest -m 'slow and not gpu'

test-gpu: install
	$(BIN)/pytest -m gpu

clean:
	rm -rf .venv build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache
