.PHONY: help install test lint
PYTHON ?= python3

help: ## print the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install -q -c constraints.txt -e '.[test]'
	touch $@

install: .venv/installed ## make .venv with pinned versions

test: .venv/installed ## run every test
	.venv/bin/python -m pytest

lint: .venv/installed ## style and format
	.venv/bin/ruff check .
