# Everything happens in .venv, which each target makes when it is missing or when pyproject.toml changed.
# PYTHON is what makes it: make PYTHON=python3.12 demo
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
BENCH  := .cache/bench-venv
JOBS   ?= 2

.DEFAULT_GOAL := help
.PHONY: help venv demo test lint docs bench clean

help:  ## say what there is
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/' | expand -t 14

venv: $(STAMP)  ## make the environment

# One line when the Python is missing or of a version that graphkit does not run on.
define check_python
	@command -v $(PYTHON) >/dev/null || { \
		echo "there is no $(PYTHON): make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else \
		"needs Python 3.11-3.13, and $(PYTHON) is %d.%d: make PYTHON=python3.12 $(MAKECMDGOALS)" % v)'
endef

$(STAMP): pyproject.toml
	$(check_python)
	@echo "making $(VENV) (once, about half a minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(STAMP)  ## mend a detector, build its engine, and find the kernel that is wrong in a spoilt one
	@$(BIN)/python -m fixtures.demo.tour demo

test: $(STAMP)  ## every test (but those for a GPU), with coverage
	$(BIN)/python -m pytest -m 'not gpu' -n $(JOBS) \
		--cov --cov-report=term --cov-fail-under=95

lint: $(STAMP)  ## style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python .ci/stubs.py
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP)  ## write the generated pages: docs/passes/, docs/cli.md, the table in README.md
	$(BIN)/python docs/generate.py

bench: $(BENCH)/.installed  ## measure graphkit beside its peers: half an hour, 5 GB of disk, 12 GB of memory
	for script in startup rewrite_small nodes transformer report; do \
		$(BENCH)/bin/python benchmarks/$$script.py || exit 1; \
	done

# The peers live in an environment of their own: what they pin must not reach the tests.
$(BENCH)/.installed: pyproject.toml benchmarks/requirements.txt
	$(check_python)
	@echo "making $(BENCH) (once, some minutes)"
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check -e . -r benchmarks/requirements.txt
	touch $@

clean:  ## remove the environment and everything that can be made again
	rm -rf $(VENV) $(BENCH) demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage* htmlcov dist build
