# One entry for people and CI. `make demo` and `make test` need nothing but Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test test-slow test-reference fuzz check format bench figures clean

demo: .venv/installed
	$(BIN)/vitreous train fashion-mini

test: check
	$(BIN)/pytest -m "not slow and not gpu and not reference"

test-slow: .venv/tested
	$(BIN)/pytest -m slow

test-reference: .venv-reference/installed  # beside torchvision and timm, which the package does not need
	.venv-reference/bin/pytest -m reference

fuzz: .venv/tested  # ten minutes each; what they find is kept in the corpora, which are not committed
	mkdir -p .fuzz/decode .fuzz/run_folder
	cp tests/fuzz/seeds/run_folder/* .fuzz/run_folder
	$(BIN)/python -m tests.fuzz.fuzz_decode .fuzz/decode -max_total_time=600 -max_len=6000 -artifact_prefix=.fuzz/
	$(BIN)/python -m tests.fuzz.fuzz_run_folder .fuzz/run_folder -max_total_time=600 -artifact_prefix=.fuzz/

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

# torchvision's wheel asks for another build of torch than the processor's, so it comes alone; so do timm and captum,
# which ask for it or for torch. tests/reference/conftest.py makes them fit.
.venv-reference/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-reference
	.venv-reference/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt \
		--editable '.[test]' huggingface_hub pyyaml
	.venv-reference/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt \
		--no-deps timm torchvision captum
	touch $@

clean:
	rm -rf .venv .venv-reference build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .fuzz
