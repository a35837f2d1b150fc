# Needs Debian 12 (or its like, or RHEL 9) with Python 3, git and make; config/setup.sh gets the rest.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup run demo test setup-e2e setup-runtimes setup-kernels test-kernels manual soak soak-spawns setup-bench bench \
	bench-fleet dashboards preview lint fuzz lock audit dev

CONFIG ?= config/agent.yaml
PYTHON := .venv/bin/python
PROGRAMS ?= 10000
FUZZ_EXAMPLES ?= 2000
SPAWNS ?= 1000000

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## /\1\t/p' Makefile | expand -t 18

setup: ## install what the agent needs: distribution packages, .venv, tracefs (as root)
	@config/setup.sh run

run: setup ## run the agent in the foreground (CONFIG=config/agent.yaml)
	@exec .venv/bin/trace-popen agent --config $(CONFIG)

demo: setup ## play a spawn that stalls and show what is said about it
	@exec $(PYTHON) -m tests.demo

test: lint ## lint, then the unit tests and the live tests (those need root and eBPF)
	$(PYTHON) -m pytest

setup-e2e: ## install what tests/e2e runs: Prometheus, Alertmanager, ... (Debian)
	@config/setup.sh e2e

setup-runtimes: ## install the runtimes that tests/runtimes plays (Debian; a gigabyte)
	@config/setup.sh runtimes

setup-kernels: ## install what tests/kernels boots other kernels with: QEMU (Debian)
	@config/setup.sh kernels

test-kernels: dev setup-kernels ## run the live tests' core on other kernels, emulated (KERNEL=image MODULES=folder)
	@$(PYTHON) -m tests.kernels $(if $(KERNEL),--kernel $(KERNEL)) $(if $(MODULES),--modules $(MODULES))

manual: dev ## write the man page and the shell completions anew (config/manual)
	@$(PYTHON) config/make-manual.py

soak: dev ## play random fd programs under the probes (PROGRAMS=10000 SEED=...)
	@exec $(PYTHON) -m tests.soak --programs $(PROGRAMS) $(if $(SEED),--seed $(SEED))

soak-spawns: dev ## a million spawns beside an agent: exact counts, flat memory (SPAWNS=1000000)
	@exec $(PYTHON) -m tests.soak_spawns --spawns $(SPAWNS)

setup-bench: ## install the tracers that tests/bench measures beside (Debian)
	@config/setup.sh bench

bench: dev setup-bench ## what it costs, beside nothing and beside other tracers (BENCH=--help)
	@exec $(PYTHON) -m tests.bench $(BENCH)

bench-fleet: dev setup-e2e ## a thousand made-up agents and one Prometheus: series, memory, query times (FLEET=--help)
	@exec $(PYTHON) -m tests.bench.fleet $(FLEET)

dashboards: dev ## write the generated dashboards and rules anew (RUNBOOKS=URL)
	@$(PYTHON) -m dashboards $(if $(RUNBOOKS),--runbooks $(RUNBOOKS))

preview: dashboards ## draw the dashboards to dashboards/*.png (Debian, npm)
	@config/setup.sh preview
	$(PYTHON) -m dashboards.preview.preview

lint: dev ## check style and types
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy --strict agent config dashboards probes tests

fuzz: dev ## the unit tests that are given garbage, with many more examples (FUZZ_EXAMPLES=2000)
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(PYTHON) -m pytest tests/unit/*/test_fuzz_*.py

lock: ## write the lists of dependencies with their hashes anew (LOCK=--upgrade)
	@config/lock.sh $(LOCK)

audit: ## ask PyPI for known vulnerabilities of what is locked
	@config/audit.sh

dev:
	@config/setup.sh dev
