.PHONY: help install demo test coverage bench differences peers mutants lint clean
PYTHON ?= python3
BIN = .venv/bin

help: ## print the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /\1\t/' | expand -t 14

.venv/installed: pyproject.toml constraints.txt
	@echo "installing into .venv, pinned by constraints.txt"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

install: .venv/installed ## make .venv with pinned versions

demo: .venv/installed ## rotate a Llama's queries and keys in six ways: errors and times
	@$(BIN)/python -m benchmarks.demo

test: .venv/installed ## run every test and every example of the docs
	$(BIN)/python -m pytest

coverage: .venv/installed ## the same, with lines covered
	$(BIN)/python -m pytest --cov --cov-report=term

bench: .venv/installed ## speed of the kernels against memory and eager formulas
	@$(BIN)/python -m benchmarks.speed

differences: .venv/installed ## measure what docs/differences.md says
	@$(BIN)/python -m benchmarks.differences

peers: .venv/installed ## who agrees with whom: docs/peers.md
	@$(BIN)/python -m tests.peers

mutants: .venv/installed ## faults in our own code that the kit finds: docs/mutants.md
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[mutants]'
	@$(BIN)/python -m tests.mutants

lint: .venv/installed ## style and types
	$(BIN)/ruff check .
	$(BIN)/mypy

clean: ## remove .venv and what tools left
	rm -rf .venv .pytest_cache .hypothesis .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
