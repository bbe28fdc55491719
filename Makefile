# Everything a contributor runs. Needs Python 3.11 or newer, make and a package
# index; no server. The first target that needs packages makes .venv for itself.
#
#   make demo PORT=8001 PYTHON=python3.13 VENV=/tmp/elsewhere

PYTHON ?= python3
VENV ?= .venv
PORT ?= 8000
PYTEST_ARGS ?=
# More of them, for the tests on PostgreSQL alone.
POSTGRESQL_ARGS ?=
FAULT_ARGS ?=

BIN := $(VENV)/bin
# Separate stamps, because the demo needs a tenth of what the developer's tools weigh.
EXTRAS := $(if $(DEMO_DATABASE_URL),[postgres])
APP := $(VENV)/.installed-app$(if $(EXTRAS),-postgres)
DEV := $(VENV)/.installed-dev
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet
PYTEST := $(BIN)/python -m pytest $(PYTEST_ARGS)

.DEFAULT_GOAL := help
.PHONY: help demo demo-serve test test-sqlite test-postgresql test-mysql \
	faults faults-postgresql faults-sqlite faults-mysql \
	format lint types bench docs clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' \
		$(firstword $(MAKEFILE_LIST))

demo: $(APP) ## Survey this Python's standard library, one job a module (10 s)
	@echo "==> demo: one job for each module of the standard library"
	@$(BIN)/python examples/demo/manage.py demo

demo-serve: $(APP) ## Django admin and a running runtime, until Ctrl-C (PORT=8000)
	@echo "==> demo-serve: a web server and the runtime"
	@$(BIN)/python examples/demo/manage.py demo_serve --port $(PORT)

test: test-sqlite test-postgresql test-mysql ## Run the tests on each database there is

test-sqlite: $(DEV)
	@echo "==> tests on SQLite"
	@WINDLASS_TEST_DATABASE=sqlite $(PYTEST)

# A server named by WINDLASS_TEST_PG_HOST, or else the one in the wheel.
test-postgresql: $(DEV)
ifdef WINDLASS_TEST_PG_HOST
	@echo "==> tests on PostgreSQL at $(WINDLASS_TEST_PG_HOST)"
	@WINDLASS_TEST_DATABASE=postgresql $(PYTEST) $(POSTGRESQL_ARGS)
else
	@echo "==> tests on PostgreSQL, a server of our own"
	@WINDLASS_TEST_DATABASE=postgresql \
		$(BIN)/python tests/with_postgres.py $(PYTEST) $(POSTGRESQL_ARGS)
endif

test-mysql: $(DEV)
ifdef WINDLASS_TEST_MYSQL_HOST
	@echo "==> tests on MariaDB or MySQL at $(WINDLASS_TEST_MYSQL_HOST)"
	@WINDLASS_TEST_DATABASE=mysql $(PYTEST)
else
	@echo "==> no tests on MariaDB: set WINDLASS_TEST_MYSQL_HOST to a server"
endif

faults: faults-postgresql faults-sqlite faults-mysql ## Storms of faults (50 minutes; FAULT_SECONDS=60: 3)

faults-postgresql: FAULT_SECONDS ?= 1800
faults-sqlite faults-mysql: FAULT_SECONDS ?= 600
faults-postgresql faults-sqlite faults-mysql: faults-%: $(DEV)
	@echo "==> faults on $*, $(FAULT_SECONDS) s"
	@$(BIN)/python -m tests.faults --database $* \
		--seconds $(FAULT_SECONDS) $(FAULT_ARGS)

format: $(DEV) ## Format the code and sort imports
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lint: $(DEV) ## Check style, formatting and which layer imports which
	@echo "==> ruff, import-linter"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

types: $(DEV) ## Check types
	@echo "==> mypy"
	@$(BIN)/mypy windlass

bench: $(DEV) ## Measure this machine (minutes)
	@echo "==> bench"
	@$(BIN)/python -m bench

docs: $(DEV) ## Build the documentation into site/, warnings are errors
	@echo "==> mkdocs"
	@$(BIN)/mkdocs build --strict --clean

clean: ## Remove what the other targets made
	rm -rf $(VENV) .venv-ci .demo site dist build .hypothesis \
		.pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit( \
		"Windlass needs Python 3.11 or newer, and $(PYTHON) is %d.%d: " \
		"name another with make PYTHON=..." % sys.version_info[:2])'
	@echo "==> making a virtual environment in $(VENV) ($$($(PYTHON) --version))"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(APP): pyproject.toml | $(BIN)/python
	@echo "==> installing Windlass and Django into $(VENV)"
	@$(PIP) --editable '.$(EXTRAS)'
	@touch $@

$(DEV): pyproject.toml | $(BIN)/python
	@echo "==> installing Windlass and the developer's tools into $(VENV)"
	@$(PIP) --editable '.[dev]'
	@touch $@ $(APP)
