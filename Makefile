# Needs Debian 12 (or its like, or RHEL 9) with Python 3, git and make; config/setup.sh gets the rest.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup run demo test test-e2e setup-e2e setup-runtimes soak lint dev

CONFIG ?= config/agent.yaml
PYTHON := .venv/bin/python
PROGRAMS ?= 10000

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## /\1\t/p' Makefile | expand -t 18

setup: ## install what the agent needs: distribution packages, .venv, tracefs (as root)
	@config/setup.sh run

run: setup ## run the agent in the foreground (CONFIG=config/agent.yaml)
	@exec .venv/bin/trace-popen agent --config $(CONFIG)

demo: setup ## play a spawn that stalls and show what is said about it
	@exec $(PYTHON) -m tests.demo

test: lint ## lint, then the unit tests and the live tests (those need root and eBPF)
	$(PYTHON) -m pytest tests/unit tests/live

test-e2e: setup-e2e dev ## the end-to-end tests: the page in a real Chromium
	$(PYTHON) -m pytest tests/e2e

setup-e2e: ## install what tests/e2e drives (Debian)
	@config/setup-e2e.sh

setup-runtimes: ## install the runtimes of tests/runtimes (Debian; needs a gigabyte)
	@config/setup-runtimes.sh

soak: dev ## play random fd programs under the probes (PROGRAMS=10000 SEED=...)
	@exec $(PYTHON) -m tests.soak --programs $(PROGRAMS) $(if $(SEED),--seed $(SEED))

lint: dev ## check style and types
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy --strict agent probes tests

dev:
	@config/setup.sh dev
