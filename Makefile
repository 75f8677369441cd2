# Every target works from a fresh clone with nothing but make and Python 3.11 or newer:
# it makes .venv, installs the pinned parts by hash, and only then does its work.
#
#   make demo           the guided tour, no key and no service
#   make test           lint, generated code, the whole test suite
#   make lint           ruff, mypy --strict, freshness of generated code
#   make bench          every figure beside its peer         (make bench ARGS="--only writes")
#   make soak           the long counts of docs/reliability.md (make soak KILLS=100 OPENS=50)
#   make bench-recall   recall quality on a labelled set     (make bench-recall ARGS="...")
#   make lock           renew the pins
#   make clean          remove what was built; `make distclean` also removes .venv

.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules
SHELL := /bin/sh

PY := .venv/bin/python
FOLDERS := $(wildcard src tests tools bench soak examples)

# A finished environment brings its own Python; otherwise one has to be found, once.
PYTHON = $(if $(wildcard .venv/made),$(PY),$(shell sh tools/find-python.sh))
BOOTSTRAP = $(if $(PYTHON),$(PYTHON),false) tools/bootstrap.py

WORKERS ?= 2
KILLS ?= 1000
OPENS ?= 500
STRINGS ?= 100000
POWER_CUTS ?= 2000
FAULTS ?= 1000
PAUSES ?= 50
LOG_MIB ?= 2000
PG_KILLS ?= 200
PG_CUTS ?= 1000
PG_TENANTS ?= 1000000
PG_POOLED ?= 100000
PG_MATRIX ?= 5
PG_PATRONI ?= 5
# Small disks are mounted for it, which root alone may do.
PG_FULL ?= $(if $(filter 0,$(shell id -u)),10,0)
MERGE_KILLS ?= 1000
AGREEMENT_SECONDS ?= 3600

.PHONY: help demo test tests lint format generated tidy bench soak bench-recall lock clean distclean
.PHONY: runtime dev

help:
	@sed -n 's/^#   //p' Makefile

runtime:
	@$(BOOTSTRAP) runtime

dev:
	@$(BOOTSTRAP) dev

demo: runtime
	@.venv/bin/holdfast demo $(ARGS)

test: lint tests

tests: dev
	@sh tools/install-pooler.sh
	$(PY) -m pytest -n $(WORKERS) $(ARGS)

lint: dev generated
	$(PY) -m ruff check $(FOLDERS)
	$(PY) -m ruff format --check $(FOLDERS)
	$(PY) -m mypy $(FOLDERS)

format: dev
	$(PY) -m ruff check --fix $(FOLDERS)
	$(PY) -m ruff format $(FOLDERS)

generated: dev
	@$(PY) tools/generate_aio.py --check
	@$(PY) tools/generate_cli_docs.py --check
	@$(PY) tools/generate_store_docs.py --check
	@$(PY) tools/generate_checklist.py --check

tidy: dev
	$(PY) -m tests.tidy

bench: dev
	$(PY) -m bench.run $(ARGS)

bench-recall: dev
	$(PY) bench/recall/measure.py $(ARGS)

soak: dev
	@sh tools/install-pooler.sh
	$(PY) -m soak.run --kills $(KILLS) --opens $(OPENS) --strings $(STRINGS) \
	    --power-cuts $(POWER_CUTS) --faults $(FAULTS) --pauses $(PAUSES) --log-mib $(LOG_MIB) \
	    --pg-kills $(PG_KILLS) --pg-cuts $(PG_CUTS) --pg-tenants $(PG_TENANTS) --pg-pooled $(PG_POOLED) \
	    --pg-matrix $(PG_MATRIX) --pg-patroni $(PG_PATRONI) --pg-full $(PG_FULL) \
	    --merge-kills $(MERGE_KILLS) --agreement-seconds $(AGREEMENT_SECONDS) $(ARGS)

# One package set per file; dev is compiled against runtime, so both agree on every version.
COMPILE = .venv/bin/uv pip compile --quiet --system-certs --universal --python-version 3.11 \
    --generate-hashes --no-header $(LOCK_ARGS)

lock: dev
	$(COMPILE) requirements/uv.in -o requirements/uv.txt
	$(COMPILE) pyproject.toml requirements/build.in -o requirements/runtime.txt
	$(COMPILE) pyproject.toml requirements/build.in requirements/dev.in \
	    --extra documents --extra http --extra local --extra postgres --extra static --extra testing -c requirements/runtime.txt -o requirements/dev.txt
	$(COMPILE) --no-deps requirements/servers.in -o requirements/servers.txt
	$(COMPILE) requirements/patroni.in -o requirements/patroni.txt
	$(subst 3.11,3.12,$(COMPILE)) --no-deps requirements/matrix.in -o requirements/matrix.txt

clean:
	rm -rf build dist .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find $(FOLDERS) -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv .venv.lock
