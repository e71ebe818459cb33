# Ferryman: everything needs only Python 3.11+ and make. The first target sets up .venv from requirements.lock.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-from-lock
BENCH_STAMP := $(VENV)/.installed-bench
API_STAMP := $(VENV)/api/.installed
CLIENTS_STAMP := $(VENV)/clients/.installed
FUZZ_STAMP := $(VENV)/fuzz/.installed
AUDIT_STAMP := $(VENV)/audit/.installed

# `make demo EXIT=1` ends by itself, non-zero when anything differed.
EXIT ?=
# Further arguments: `make test ARGS="-k gateway -x"`.
ARGS ?=
# Test processes: most tests wait for servers, so there are more of them than cores. 0 runs them in one, for a
# debugger: `make test JOBS=0 ARGS=--pdb`. Files go as they are collected: those with few and long tests come before
# the many of tests/unit, so that no process is left over with one of them.
JOBS ?= 6
# Slow tests load the machine: no more of them than cores.
SLOW_JOBS ?= 2

# Tests start hundreds of our processes: each would compile us anew (0.4 s of CPU) for want of a bytecode cache.
unexport PYTHONDONTWRITEBYTECODE

HOURS ?=
SEED ?=
REPLAY ?=
# `make faults`, `make simulate`, `make fuzz`, `make endurance`: for how long.
MINUTES ?=
# `make fuzz`: one reader (TARGET=redirects), how many inputs for each, one input again.
TARGET ?=
# `make audit`: which service of vulnerabilities is asked.
SERVICE ?= pypi
INPUTS ?=
INPUT ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow faults simulate fuzz fuzz-api endurance lint audit sbom wheel format bench pictures clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Create .venv from requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## Show the whole way of an object on a sample origin (EXIT=1: end by itself)
	$(BIN)/ferryman demo $(if $(EXIT),--exit)

test: setup ## Run the tests, without those marked slow
	$(BIN)/python -m pytest -m "not slow" -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

# S3 clients of others need versions of their own of what we use, too.
$(CLIENTS_STAMP): tests/clients.lock $(STAMP)
	$(BIN)/python -m venv $(VENV)/clients
	$(VENV)/clients/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r tests/clients.lock
	@touch $@

# What asks the admin API as its document says, likewise.
$(API_STAMP): tests/api.lock $(STAMP)
	$(BIN)/python -m venv $(VENV)/api
	$(VENV)/api/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r tests/api.lock
	@touch $@

test-slow: setup $(CLIENTS_STAMP) $(API_STAMP) ## Run the slow tests: full-size loads, real servers and clients of others
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r tests/gateways.lock
	$(BIN)/python -m pytest -m slow -n $(SLOW_JOBS) --dist loadfile $(ARGS)

faults: setup ## Random faults under load (HOURS=8, SEED=7, REPLAY=faults-7.json; three minutes without)
	PYTHONPATH=tests $(BIN)/python -m torture $(if $(HOURS),--hours $(HOURS)) $(if $(SEED),--seed $(SEED)) \
		$(if $(MINUTES),--minutes $(MINUTES)) $(if $(REPLAY),--replay $(REPLAY)) $(ARGS)

simulate: setup ## The core under a simulated clock, failures at every await (MINUTES=10, SEED=7: that one again)
	PYTHONPATH=tests $(BIN)/python -m simulation $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

# Coverage-guided where there is a wheel of atheris for this Python; blind elsewhere.
$(FUZZ_STAMP): tests/fuzz.lock $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
		--upgrade --target $(VENV)/fuzz -r tests/fuzz.lock || { mkdir -p $(VENV)/fuzz; echo "no atheris: blind" >&2; }
	@touch $@

fuzz: setup $(FUZZ_STAMP) ## Hostile input for every reader of strangers' bytes (TARGET=, INPUTS= or MINUTES=, SEED=, INPUT=file)
	PYTHONPATH=tests:$(VENV)/fuzz $(BIN)/python -m fuzz $(if $(TARGET),--target $(TARGET)) $(if $(INPUTS),--inputs $(INPUTS)) \
		$(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(if $(INPUT),--input $(INPUT)) $(ARGS)

fuzz-api: setup $(API_STAMP) ## The admin API against its own OpenAPI document (INPUTS=5000 of each operation, SEED=7)
	PYTHONPATH=tests $(BIN)/python -m fuzz.api $(if $(INPUTS),--inputs $(INPUTS)) $(if $(SEED),--seed $(SEED)) $(ARGS)

endurance: setup ## An hour of mixed traffic at 80 % of the best rate: what grows (MINUTES=60)
	$(BIN)/python bench/endurance.py --minutes $(or $(MINUTES),60) $(ARGS)

lint: setup ## ruff, mypy strict and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

$(AUDIT_STAMP): deploy/supply/audit.lock $(STAMP)
	$(BIN)/python -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r deploy/supply/audit.lock
	@touch $@

audit: $(AUDIT_STAMP) ## Known vulnerabilities of what is locked (asks the service of PyPI; SERVICE=osv: that of OSV)
	@VENV=$(VENV)/audit SERVICE=$(SERVICE) sh deploy/supply/audit.sh requirements.lock deploy/docker/requirements.lock

sbom: setup ## Bill of materials of what is locked, CycloneDX: dist/ferryman.cdx.json
	$(BIN)/python deploy/supply/sbom.py dist/ferryman.cdx.json

# One tree gives one wheel, byte for byte, wherever and whenever it is built.
wheel: setup ## The wheel of this tree, reproducible: dist/
	SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-1580601600} $(BIN)/python -m hatchling build -t wheel -d dist
	@cd dist && sha256sum *.whl

format: setup ## Let ruff format and fix what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BENCH_STAMP): bench/requirements.lock $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r bench/requirements.lock
	@touch $@

bench: $(BENCH_STAMP) ## Measure beside rclone and juicefs (ARGS="--only NAME", "--no-peers")
	$(BIN)/python bench/run.py $(ARGS)

pictures: setup ## Make the pictures of README and docs from a demo, in Chromium (tests/gateways.lock has its driver)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r tests/gateways.lock
	$(BIN)/python docs/pictures.py

clean: ## Remove what was made here (not .ferryman, which is data)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .ferryman-demo \
		build dist bench/out fuzz-found
	find workers scheduler tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
