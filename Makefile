# Each target makes .venv and installs what it needs; the second time that takes no time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
BENCHMARKS := bursts decoding deploy frozen lines memory methods promise reflect_parts scale scoring service small startup threads training

.PHONY: help demo test lint format bench results pages docs clean
.DEFAULT_GOAL := help

help:
	@echo "make demo     learn from photographs of solar cells, and show how good that is (a minute)"
	@echo "make test     lint, then every test"
	@echo "make lint     ruff and mypy"
	@echo "make format   let ruff rewrite what it can"
	@echo "make bench    speed and memory of this machine"
	@echo "make docs     the site, in site/"
	@echo "make results  docs/results.md and docs/which.md from the records in results/ (onlygood bench run makes records)"
	@echo "make pages    what pages of methods say of their classes: stages, settings, presets, departures, who can what"
	@echo "make clean    remove $(VENV) and caches"

# torch comes first and alone: together with others pip may prefer another build than the pinned one.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e '.[train,demo,dev,docs,ray,openvino,serve,mlflow,tensorboard,timm,align]'
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/onlygood demo

test: lint
	$(BIN)/pytest -n auto --dist worksteal

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed
	@for name in $(BENCHMARKS); do \
		echo "== $$name"; $(BIN)/python benchmarks/$$name.py || exit 1; \
	done

results: $(VENV)/.installed
	$(BIN)/onlygood bench results
	$(BIN)/python docs/make/which.py

pages: $(VENV)/.installed
	$(BIN)/python docs/make/pages.py
	$(BIN)/python benchmarks/lines.py --write

docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

clean:
	rm -rf $(VENV) site .mypy_cache .pytest_cache .ruff_cache
