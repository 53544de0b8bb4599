# Everything runs in .venv, which each target that needs it makes or brings up to date first.
PYTHON ?= python3
BIN := .venv/bin
# As many test processes as this; each uses one thread, so that they do not fight over the cores.
JOBS ?= 2
# Arguments for pytest, for example: make test ARGS="-k trie"
ARGS ?=

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help demo test test-vllm check reference format clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## install, then train and try a small recommender on MovieLens-100K, offline
	@$(PYTHON) tools/install.py --extras serve --embedded
	@$(BIN)/llmrec demo

test: ## install, then run all tests
	@$(PYTHON) tools/install.py --extras test --embedded
	@OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 \
		$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --durations 15 --durations-min 1 $(ARGS)

test-vllm: ## install vLLM for CPUs into .venv-vllm, then run the tests that start it
	@$(PYTHON) tools/install_vllm.py
	@OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 \
		.venv-vllm/bin/python -m pytest tests/with_vllm --durations 5 --durations-min 1 $(ARGS)

check: ## style, types, import layers, and whether the wheel holds all it needs
	@$(PYTHON) tools/install.py --extras dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_wheel.py

reference: ## the API reference as HTML in build/reference
	@$(PYTHON) tools/install.py --extras test
	$(BIN)/python tools/api_reference.py build/reference

format: ## rewrite the code in the common style
	@$(PYTHON) tools/install.py --extras dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove .venv, .venv-vllm and all that tools left behind; keeps runs/ and data/
	rm -rf .venv .venv-vllm build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
