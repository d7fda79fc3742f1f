# Everything a person types here. `make run` and `make test` set up first, so neither needs anything before it.
#
#   make run [TICKS=PATH] [SPEED=N] [CLIENTS=N] [DATA=PATH] [FLAGS=--no-tour]
#   make test [ARGS="tests/unit -k margin"]
#   make soak [MINUTES=N] [SEED=N] [FAULTS=kill,line:YOFX1-trade,...]

SHELL := /bin/sh
PYTHON ?= python3
VENV := $(if $(TRIBOOK_VENV),$(TRIBOOK_VENV),.venv)
SETUP := $(PYTHON) -I platform/broker/bootstrap.py
WITH_PATH := PYTHONPATH="$(CURDIR):$(CURDIR)/platform"
IN := $(WITH_PATH) $(VENV)/bin
WORKERS ?= 2
TEST_WORKERS ?= 2
CODE := platform routing bbook fix_gateway lp_adapters apps tests bench manage.py
PRESENT = $(wildcard $(CODE))

.PHONY: help setup run test doctor lint format types contracts bench simulate mutants vectors licences lock clean

help:
	@sed -n 's/^#   //p' Makefile
	@echo "make setup | doctor | lint | format | types | contracts | bench | mutants | vectors CASES=PATH | licences | lock | clean"
	@echo "make simulate SEEDS=1000 [SEED=7] [OPERATIONS=2000]"

setup:
	@$(SETUP)

run:
	@$(SETUP) && exec env $(WITH_PATH) $(VENV)/bin/python -m broker.launch \
		$(if $(TICKS),--ticks "$(TICKS)") $(if $(SPEED),--speed "$(SPEED)") $(if $(CLIENTS),--clients "$(CLIENTS)") \
		$(if $(DATA),--data "$(DATA)") $(FLAGS)

test:
	@$(SETUP) --for-tests
	@$(IN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

.PHONY: soak
# The whole house under load while processes, stores, lines, providers and the disk fail; fails when anything was lost.
soak:
	@$(SETUP) --for-tests
	@$(IN)/python -m tests.soak --minutes $(or $(MINUTES),5) $(if $(SEED),--seed "$(SEED)") \
		$(if $(FAULTS),--faults "$(FAULTS)") $(ARGS)

doctor:
	@$(PYTHON) -I platform/broker/doctor.py

lint: setup
	@$(IN)/ruff check $(PRESENT)
	@$(IN)/ruff format --check $(PRESENT)

format: setup
	@$(IN)/ruff check --fix $(PRESENT)
	@$(IN)/ruff format $(PRESENT)

types: setup
	@$(IN)/mypy $(PRESENT)

contracts: setup
	@$(IN)/lint-imports

bench: setup
	@$(IN)/python -m bench $(ARGS)

# The real engine and provider processes against a modelled world with faults; prints what broke as a small reproduction.
simulate: setup
	@$(IN)/python -m tests.simulation --seeds $(or $(SEEDS),1000) $(if $(SEED),--seed $(SEED)) \
		$(if $(OPERATIONS),--operations $(OPERATIONS)) --workers $(WORKERS) $(ARGS)

# Known bugs, planted one at a time in the real code: fails when one goes by unseen.
mutants: setup
	@$(IN)/python -m tests.mutants --workers $(WORKERS) $(ARGS)

# Published examples against our own calculation; fails when one that we must reproduce is not.
vectors: setup
	@$(IN)/python -m tests.vectors $(if $(CASES),"$(CASES)")

# The licence of every package that is shipped; tests/unit/test_licences.py fails on one that must not be.
licences: setup
	@$(IN)/python -m tests.licences

# Renews requirements.lock: the newest versions that pyproject.toml allows, with the hash of every file.
lock: setup
	@$(IN)/uv pip compile pyproject.toml --extra dev --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet --output-file requirements.lock

clean:
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist htmlcov test-results
	find . -path ./.venv -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf
