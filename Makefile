# One entry per habit. `make demo` and `make test` do all the set-up themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test test-all test-long lint bench clean
help:
	@echo "make demo   install, and run the pipeline on embedded data"
	@echo "make test   install, and run the tests that take minutes; make test-all: also kills, servers, long trainings"
	@echo "make test-long  those that wait for minutes: whole lives of models, with schedulers and servers"
	@echo "make lint   format check, lint, types"
	@echo "make bench  the benchmarks (long; needs ../shared)"
	@echo "make clean  stop the local server; remove caches, not results"

$(VENV)/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "headstart needs Python 3.11 or newer: make PYTHON=python3.11"; exit 2; }
	@echo "installing into $(VENV) (a few minutes, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock 2>&1 | grep -v "^WARNING: Location" || true
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable . 2>&1 | grep -v "^WARNING: Location" || true
	@$(BIN)/python -c 'import flows.cli, prefect, mlflow, dvc, torchvision, lightning, pytest'
	@touch $@

demo: $(VENV)/installed
	@$(BIN)/headstart run configs/digits.yaml

# Each file's tests stay in one process, which keeps what they share; every core has a process, so each has one thread.
# In the order of the folders, those of whole pipelines do not come last, when there is nothing beside them to do.
TESTS := -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder
test test-all test-long: export OMP_NUM_THREADS ?= 1
test: $(VENV)/installed
	@$(BIN)/python $(TESTS) -m "not slow"

test-all: test
	@$(BIN)/python $(TESTS) -m "slow and not long" --durations 20

test-long: $(VENV)/installed
	@$(BIN)/python $(TESTS) -m long --durations 20

lint: $(VENV)/installed
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy

bench: $(VENV)/installed
	@for script in benchmarks/*.py; do echo "== $$script"; PYTHONPATH=. $(BIN)/python $$script || exit 1; done

clean:
	@-test -x $(BIN)/headstart && $(BIN)/headstart ui --stop
	@rm -rf .headstart .pytest_cache .mypy_cache .ruff_cache
