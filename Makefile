# Needs Python 3.11 or newer and make. Everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A process of tests for each core; make test WORKERS= runs them in one.
WORKERS ?= --numprocesses=auto
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

METADATA := setup.cfg setup.py pyproject.toml
DEMO_STAMP := $(VENV)/.installed-demo
TEST_STAMP := $(VENV)/.installed-test
DEV_STAMP := $(VENV)/.installed-dev

.PHONY: help demo test test-heavy test-all lint format bench clean
.DELETE_ON_ERROR:

help:
	@echo "make demo      push an organization between the two databases of the test project"
	@echo "make test      run the tests, on SQLite and PostgreSQL; make test ARGS=--exitfirst passes options to pytest"
	@echo "make test-all  those that take minutes, too: processes killed at every statement, writers at work meanwhile"
	@echo "               (make test-heavy runs only these; EXAMPLES=10 has them draw ten times as many examples)"
	@echo "make lint      check style and types; make format repairs the style"
	@echo "make bench     measure a million objects beside COPY and what Django has, which takes an hour"
	@echo "make clean     delete what was built, .venv too"

demo: $(DEMO_STAMP)
	$(BIN)/python -m testproject.demo

bench: $(TEST_STAMP)
	$(BIN)/python -m testproject.benchlog --databases postgresql
	$(BIN)/python -m testproject.benchscale $(ARGS)

# Two runs, as the shop has settings of its own. Both are run, whatever the first one says.
test: $(TEST_STAMP)
	@status=0; \
	$(BIN)/python -m pytest tests/shop --ds=tests.shop.settings $(WORKERS) $(ARGS) || status=1; \
	$(BIN)/python -m pytest $(WORKERS) -m "not heavy" $(ARGS) || status=1; \
	exit $$status

test-heavy: $(TEST_STAMP)
	$(BIN)/python -m pytest $(WORKERS) -m heavy $(ARGS)

test-all: test test-heavy

lint: $(DEV_STAMP)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

format: $(DEV_STAMP)
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

clean:
	rm -rf $(VENV) .matrix build dist *.egg-info .coverage htmlcov
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache testproject/data
	find gestore_sync testproject tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@command -v $(PYTHON) > /dev/null || { \
		echo "$(PYTHON) was not found. Install Python 3.11 or newer, or name it: make PYTHON=/path/to/python" >&2; \
		exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is too old: Python 3.11 or newer is needed. Name another: make PYTHON=python3.13" >&2; \
		exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { \
		echo "$(PYTHON) cannot make virtual environments: its ensurepip module is missing." >&2; \
		echo "On Debian and Ubuntu install it with: apt install python3-venv" >&2; \
		exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(DEMO_STAMP): $(METADATA) | $(BIN)/python
	$(PIP) install --editable '.[postgres]'
	@touch $@

$(TEST_STAMP): $(METADATA) | $(BIN)/python
	$(PIP) install --editable '.[test]'
	@touch $@

$(DEV_STAMP): $(METADATA) | $(BIN)/python
	$(PIP) install --editable '.[dev]'
	@touch $@
