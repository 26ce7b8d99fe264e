# Everything runs in .venv, which is made on first use and again when the dependencies or the C kernels change.

# The first interpreter that is new enough; `make PYTHON=/path/to/python3.11 test` to choose.
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
INSTALLED_FROM := pyproject.toml $(wildcard setup.py) $(wildcard dedupstore/*/*.c dedupstore/*/*.h)

# Tests run in as many processes as there are processors; `make JOBS=0 test`: in a single one. Where everything is run the fast
# ones do too: each process would start a server of every kind for itself, and Ceph is large.
JOBS := auto

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all lint fmt bench golden check clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP) ## a backup, a disaster and a restore, in a temporary directory
	@$(BIN)/python tools/demo.py

test: $(STAMP) ## the fast tests
	@$(BIN)/python -m pytest -q -n $(JOBS) --maxprocesses 8 --dist loadfile

test-all: test ## all tests, the slow ones too
	@$(BIN)/python -m pytest -q -m slow -n $(JOBS) --maxprocesses 8

lint: $(STAMP) ## style, types and layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --strict dedupstore tools benchmarks
	@$(BIN)/python tools/check_layers.py

fmt: $(STAMP) ## rewrite the code in the project's format
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format --quiet .

bench: $(STAMP) ## speed and size, against the numbers in docs
	@$(BIN)/python -m benchmarks

golden: $(STAMP) ## rewrite the golden files; review the diff before committing it
	@REWRITE_GOLDEN=1 $(BIN)/python -m pytest -q -m ""
	@git --no-pager diff --stat -- tests

check: lint test ## what must be green before a commit

clean: ## remove everything that make and Python made
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find dedupstore tests tools benchmarks \( -name __pycache__ -o -name '*.so' \) -prune -exec rm -rf {} +

$(STAMP): $(INSTALLED_FROM)
	@set -e; python=""; \
	for candidate in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11); do \
	    if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python="$$candidate"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "error: no Python 3.11 or newer found (tried: $(or $(PYTHON),python3 and python3.11 to python3.14))" >&2; \
	    echo "  try: apt install python3 python3-venv     or: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; \
	fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "error: $$python cannot make a virtual environment" >&2; \
	    echo "  try: apt install python3-venv" >&2; exit 1; \
	fi; \
	echo "installing into $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
