# Everything a fresh clone needs: python3, make and git. The environment lives in .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install quickstart smoke lint test test-slow clean

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

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint  ## lint, types and the default tests
	$(BIN)/pytest -n 2 --dist loadfile

test-slow: install
	$(BIN)/pytest -m slow

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
