.PHONY: help install demo test fuzz coverage bench differences peers libraries converters cases package oldest release models bench-gpu docs mutants lint clean
PYTHON ?= python3
BIN = .venv/bin

help: ## print the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 14

.venv/installed: pyproject.toml constraints.txt
	@echo "installing into .venv, pinned by constraints.txt"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

.venv/demo: pyproject.toml constraints.txt
	@echo "installing what the demo needs into .venv, pinned by constraints.txt: 1.1 GB with torch's CPU build"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --no-compile --disable-pip-version-check -c constraints.txt -e '.[demo]'
	@touch $@

install: .venv/installed ## make .venv with pinned versions

demo: $(if $(wildcard .venv/installed),.venv/installed,.venv/demo) ## rotate a Llama's queries and keys in six ways: errors and times
	@$(BIN)/python -m benchmarks.demo

test: .venv/installed ## run the tests and every example of the docs in two processes; EVERY=1: long ones too
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -rs $(if $(EVERY),--every)

fuzz: .venv/installed ## properties and hostile calls drawn anew, for MINUTES=10; SEED=... repeats a round
	@$(BIN)/python -m tests.forever $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

coverage: .venv/installed ## the same, with lines covered
	$(BIN)/python -m pytest --cov --cov-report=term

bench: .venv/installed ## speed of the kernels against memory and other implementations (some minutes)
	@$(BIN)/rope-ref bench

models: .venv/installed ## models of transformers, patched: tokens per second, share of rotation (an hour)
	@$(BIN)/python -m benchmarks.models

bench-gpu: .venv/installed ## speed of the CUDA kernels against a copy and others, where there is a GPU
	@$(BIN)/python -m benchmarks.gpu

differences: .venv/installed ## measure what docs/differences.md says
	@$(BIN)/python -m benchmarks.differences

peers: .venv/installed ## who agrees with whom: docs/peers.md
	@$(BIN)/python -m tests.peers

libraries: .venv/installed ## the rotary embeddings of 14 more libraries through the kit, each installed under build (400 MB)
	@$(BIN)/python -m examples.libraries $(NAMES)

converters: .venv/installed ## configs against what llama.cpp's converter makes of them; LLAMA_CPP=a checkout of it
	@$(BIN)/python -m tests.rope_ref.converters $(LLAMA_CPP)

cases: .venv/installed ## real bugs, and what the kit calls them: docs/cases.md
	@$(BIN)/python -m tests.conformance.wrong

mutants: .venv/installed ## faults in our own code that the kit finds: docs/mutants.md
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[mutants]'
	@$(BIN)/python -m tests.mutants

lint: .venv/installed ## style and types
	$(BIN)/ruff check .
	$(BIN)/mypy

package: .venv/installed ## build wheel and sdist, install the wheel into an empty environment and try it there
	rm -rf dist build/empty
	$(BIN)/pip wheel -q --no-deps -w dist .
	$(BIN)/python -c "import hatchling" 2>/dev/null || $(BIN)/pip install -q hatchling
	$(BIN)/python -m hatchling build -t sdist
	$(PYTHON) -m venv build/empty
	build/empty/bin/pip install -q dist/*.whl
	cd build && empty/bin/python ../tests/smoke.py

OLDEST = numpy==1.26.4 numba==0.60.0
OLDEST_TORCH = torch==2.6.0
WITHOUT_TORCH = tests/oldest.py tests/numba_kernels/test_bits.py tests/numba_kernels/test_numba_kernels.py rope_ref numba_kernels
WITH_TORCH = $(patsubst %,tests/torch_bridge/test_%.py,bridge operators drop_in rotary rules sharding patch) \
	$(patsubst %,tests/numba_kernels/test_%.py,norm heads large threads)

oldest: ## the kernels with the oldest NumPy and Numba there may be, the bridge with the oldest torch (downloads 5.5 GB)
	$(PYTHON) -m venv build/oldest
	build/oldest/bin/pip install -q $(OLDEST) pytest hypothesis safetensors rich ml_dtypes -e .
	build/oldest/bin/python -m pytest -q -p no:cacheprovider $(WITHOUT_TORCH)
	$(PYTHON) -m venv build/oldest-torch
	build/oldest-torch/bin/pip install -q $(OLDEST_TORCH) numba pytest hypothesis safetensors rich ml_dtypes \
		rotary-embedding-torch==0.9.1 'transformers>=5' -e .
	build/oldest-torch/bin/python -m pytest -q -p no:cacheprovider -rs $(WITH_TORCH)

release: ## tag the version of pyproject.toml; refuses a tree that is dirty, fails, or lacks a line in CHANGELOG.md
	@test -z "$$(git status --porcelain)" || { echo "the tree is not clean: commit or stash first"; exit 1; }
	@version=$$($(PYTHON) -c "import tomllib; print(tomllib.load(open('pyproject.toml', 'rb'))['project']['version'])"); \
	grep -q "^## $$version, 20" CHANGELOG.md || { echo "CHANGELOG.md has no dated line for $$version"; exit 1; }; \
	! git rev-parse -q --verify "refs/tags/v$$version" >/dev/null || { echo "v$$version is tagged already"; exit 1; }
	$(MAKE) lint test package
	git tag -a "v$$($(PYTHON) -c "import tomllib; print(tomllib.load(open('pyproject.toml', 'rb'))['project']['version'])")" -m "release"

docs: .venv/installed ## the book, with every example executed: site/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

clean: ## remove .venv and what tools left
	rm -rf .venv build dist site .pytest_cache .hypothesis .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
