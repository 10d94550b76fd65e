# Everything a fresh clone needs: python3, make and git. The environment lives in .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install quickstart smoke compare-digits compare-cifar10 benchmarks docs options lint test test-slow test-gpu clean

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

# Every method alone and inside PDD. With `make -j2` two runs share a machine with two cores.
METHODS := mtt pdd_mtt dc pdd_dc dsa pdd_dsa dm pdd_dm idc pdd_idc cafe cafe_dsa pdd_cafe
DIGITS := $(METHODS:%=checkpoints/digits/%)
CIFAR10 := $(addprefix checkpoints/cifar10-compare/,mtt pdd_mtt idc pdd_idc)
DATA ?= data/cifar10

compare-digits: $(DIGITS:%=%/evaluation/results.json)  ## one table of every method on digits
	$(BIN)/pdd-cli compare $(DIGITS) --output checkpoints/digits/table.md

checkpoints/digits/%/evaluation/results.json: configs/digits/%.yaml | install
	$(BIN)/pdd-cli run --config $<

compare-cifar10: $(CIFAR10:%=%/evaluation/results.json)  ## one table of two methods on the image folder DATA
	$(BIN)/pdd-cli compare $(CIFAR10) --output checkpoints/cifar10-compare/table.md

checkpoints/cifar10-compare/%/evaluation/results.json: configs/cifar10/compare/%.yaml | install
	$(BIN)/pdd-cli run --config $< --data.root $(DATA)

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
	$(BIN)/pytest -m slow

test-gpu: install
	$(BIN)/pytest -m gpu

clean:
	rm -rf .venv build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache
