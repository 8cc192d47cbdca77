# One entry for people and CI. `make demo` and `make test` need nothing but Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test test-slow check format bench figures clean

demo: .venv/installed
	$(BIN)/vitreous train fashion-mini

test: check
	$(BIN)/pytest -m "not slow and not gpu"

test-slow: .venv/tested
	$(BIN)/pytest -m slow

check: .venv/tested
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/tested
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

figures: .venv/installed  # about an hour and a half on two cores; appends to benchmarks/results/accuracy.jsonl
	$(BIN)/python -m benchmarks.accuracy
	$(BIN)/python -m benchmarks.tables

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/tested: .venv/installed
	$(PIP) install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

clean:
	rm -rf .venv build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
