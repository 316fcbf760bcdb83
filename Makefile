# Each command works as the first one in a fresh clone: it needs Python 3.11 to 3.14 with venv, make and git, and sets up
# what it uses in .venv (or .venv-bench, .venv-docs), at the versions locked in requirements/.
#
#   make test ARGS="-k lease -x"     passes words on to pytest; `make demo` and `make bench` take ARGS too
#   make test PYTHON=/path/to/python  picks the interpreter of a new environment

MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: demo test crash crash-night mutants adapters check bench docs build clean format help

# Tests start hundreds of processes: where none may keep what it has compiled, each compiles all of Waypost again.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
BENCH_BIN := .venv-bench/bin
DOCS_BIN := .venv-docs/bin
ADAPTERS_BIN := .venv-adapters/bin
ARGS ?=

# The first interpreter that runs, is of a supported version and can make environments. Running it is the only sure
# sign: version managers leave commands on the path that only print an error.
SUITABLE := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	if $$name -c '$(SUITABLE)' >/dev/null 2>&1; then command -v $$name; break; fi; done)

# -qq leaves errors only. Building in place of isolation takes the locked hatchling instead of the newest one.
PIP_INSTALL := -m pip --disable-pip-version-check install -qq
BUILD_TOOLS := --constraint requirements/dev.txt hatchling

help: ## show these commands
	@echo "usage: make COMMAND [ARGS=...]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile

demo: .venv/runtime.stamp ## see Waypost lose a process and carry on
	@$(BIN)/waypost demo $(ARGS)

# In the order of their names the long files come first; else those of few tests, which take longest, would be the last.
test: .venv/dev.stamp ## run all tests, those of crash among them: 17 to 35 minutes on two cores
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

CRASH := tests/crash tests/postgres/test_cuts.py tests/postgres/test_cuts_two_stores.py tests/postgres/test_killed.py

crash: .venv/dev.stamp ## run those alone that break things on purpose, and count what they tried
	@$(BIN)/python -m pytest -n 2 --dist load --floors --totals build/crash-C.txt $(CRASH) $(ARGS)

crash-night: .venv/dev.stamp ## the same at the size of a night; broken off, it goes on where it was
	@$(BIN)/python -m tools.night $(ARGS)

mutants: .venv/dev.stamp ## remove each sync, lock and comparison of the store, and see a test fail
	@$(BIN)/python -m tools.mutants $(ARGS)

# The version is the running one, since 3.14 has in the standard library what older ones take from a package.
# Apart from the other tests: the SDKs weigh more than all the rest together.
adapters: .venv-adapters/adapters.stamp ## run the tests of the adapters with the SDKs that they are for
	@$(ADAPTERS_BIN)/python -m pytest -q -rs tests/adapters/test_claude_agent.py tests/adapters/test_openai_agents.py \
		tests/test_examples.py $(ARGS)

check: .venv/dev.stamp ## format, lint, types and tidiness
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/basedpyright --pythonversion "$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
	@$(BIN)/python -m pytest -q tests/test_tidy.py

bench: .venv-bench/bench.stamp ## measure, with the peers beside it
	@$(BENCH_BIN)/python -m benchmarks $(ARGS)

# What is described is read where it stands, so Waypost itself is not installed. The variable silences an advertisement.
docs: .venv-docs/docs.stamp ## build the documentation in build/site; a link or page that is missing ends it
	@NO_MKDOCS_2_WARNING=1 PYTHONPATH=src $(DOCS_BIN)/python -m mkdocs -q build $(ARGS)
	@echo "build/site/index.html"

build: .venv/dev.stamp ## make the wheel and the source archive in dist/
	@rm -rf dist
	@$(BIN)/python -m build --no-isolation

format: .venv/dev.stamp ## format, and mend what lint can mend
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

clean: ## remove all that these commands made, environments too
	@rm -rf .venv .venv-bench .venv-docs .venv-adapters build dist .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "clean"

# An environment holds a stamp for each set of packages that it has; a changed list of pins or project file is newer
# than its stamp, so that the next command installs again. One whose interpreter has gone is made anew.

$(shell for env in .venv .venv-bench .venv-docs .venv-adapters; do test -x $$env/bin/python || rm -f $$env/pyvenv.cfg; done)

.venv/pyvenv.cfg .venv-bench/pyvenv.cfg .venv-docs/pyvenv.cfg .venv-adapters/pyvenv.cfg:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 to 3.14 with venv was found. Name one: make PYTHON=/path/to/python"; exit 1; }
	@"$(PYTHON)" -c '$(SUITABLE)' || { echo "$(PYTHON) is not a Python 3.11 to 3.14 with venv."; exit 1; }
	@echo "Setting up $(@D) with $$("$(PYTHON)" --version)"
	@"$(PYTHON)" -m venv --clear $(@D)

.venv/runtime.stamp: requirements/runtime.txt requirements/dev.txt pyproject.toml .venv/pyvenv.cfg
	@echo "Installing what Waypost needs to run"
	@$(BIN)/python $(PIP_INSTALL) -r requirements/runtime.txt $(BUILD_TOOLS)
	@$(BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

.venv/dev.stamp: requirements/dev.txt .venv/runtime.stamp
	@echo "Installing the development tools"
	@$(BIN)/python $(PIP_INSTALL) -r requirements/dev.txt
	@touch $@

.venv-bench/bench.stamp: requirements/runtime.txt requirements/bench.txt requirements/dev.txt pyproject.toml .venv-bench/pyvenv.cfg
	@echo "Installing Waypost and its peers for the benchmarks"
	@$(BENCH_BIN)/python $(PIP_INSTALL) -r requirements/runtime.txt -r requirements/bench.txt $(BUILD_TOOLS)
	@$(BENCH_BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

.venv-docs/docs.stamp: requirements/runtime.txt requirements/docs.txt .venv-docs/pyvenv.cfg
	@echo "Installing what builds the documentation"
	@$(DOCS_BIN)/python $(PIP_INSTALL) -r requirements/runtime.txt -r requirements/docs.txt
	@touch $@

.venv-adapters/adapters.stamp: requirements/adapters.txt pyproject.toml .venv-adapters/pyvenv.cfg
	@echo "Installing the SDKs that the adapters are for"
	@$(ADAPTERS_BIN)/python $(PIP_INSTALL) -r requirements/adapters.txt
	@$(ADAPTERS_BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@
