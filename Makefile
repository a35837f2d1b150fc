# Needs Debian 12 (or a derivative, or RHEL 9) with Python 3, git and make; config/setup.sh installs the rest.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup run demo check test test-pythons setup-e2e setup-runtimes setup-kernels test-kernels manual soak theatre \
	setup-packages rpm deb packages test-ansible snapshot soak-spawns setup-bench bench bench-fleet dashboards preview manifests lint lint-only \
	style fuzz lock audit pin wheel sbom dev announce-test

CONFIG ?= config/agent.yaml
PYTHON := .venv/bin/python
PROGRAMS ?= 10000
SUITES ?= bookworm trixie
PLAYS ?= 10000
FUZZ_EXAMPLES ?= 2000
ENGINE ?= docker
IMAGE_SBOM := /opt/spawnstall/share/spawnstall/sbom.cdx.json
SPAWNS ?= 1000000
C_FILES := probes/*.[ch] tests/*/*.c tests/*/*/*.c
TYPES := $(PYTHON) -m mypy --strict spawnstall.py agent config dashboards probes tests
SHELL_FILES := .ci/run config/*.sh config/deb/p*rm tests/programs/*.sh tests/programs/runtimes/*.sh

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## /\1\t/p' Makefile | expand -t 18

setup: ## install what the agent needs: distribution packages, .venv, tracefs (as root)
	@config/setup.sh run

run: setup ## run the agent in the foreground (CONFIG=config/agent.yaml)
	@exec .venv/bin/trace-popen agent --config $(CONFIG)

demo: setup ## play a stall and show its report
	@exec $(PYTHON) -m tests.demo

check: ## lint, types and the unit tests: a minute, without root, bcc or a kernel with eBPF
	@config/setup.sh check
	@$(MAKE) --no-print-directory style
	@mkdir -p .cache
	@# mypy uses one processor: the tests use the others meanwhile.
	$(TYPES) >.cache/types 2>&1 & types=$$!; \
	FUZZ_PROFILE=quick $(PYTHON) -m pytest --numprocesses auto --quiet tests/unit; tests=$$?; \
	wait $$types; types=$$?; cat .cache/types; exit $$((tests | types))

test: announce-test lint test-pythons ## lint, types, and all tests (as root, with eBPF; half an hour)
	$(PYTHON) -m pytest --numprocesses auto --quiet tests/unit tests/e2e/test_rules.py
	$(PYTHON) -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile -m "not alone" \
		tests/live tests/runtimes tests/e2e --deselect tests/e2e/test_rules.py
	$(PYTHON) -m pytest -m alone tests/live tests/e2e

test-pythons: ## the unit tests on Python 3.9 and 3.14, of PATH, pyenv or Debian
	@config/setup.sh pythons
	@for python in .cache/unit-*/bin/python; do \
		[ -x "$$python" ] || continue; \
		echo "unit tests on $$("$$python" --version)"; \
		FUZZ_PROFILE=few "$$python" -m pytest --numprocesses auto --quiet -p no:cacheprovider -m "not once" \
			tests/unit --ignore tests/unit/project || exit; \
	done

announce-test:
	@echo "make test: takes about 30 minutes if everything is installed, and up to 5 more to install:"
	@echo "  Debian packages python3-bpfcc, python3-venv, gcc, libc6-dev, openssl, if missing; in .venv the packages of"
	@echo "  config/requirements-dev.txt; in .cache a Python 2.7, unpacked from Debian's archives, and virtual environments of"
	@echo "  Python 3.9, where PATH or pyenv has it, and of 3.14, unpacked from Debian's archives too."
	@echo "  Tests of programs that are not installed are skipped: make setup-e2e setup-runtimes installs them."
	@echo "  make check takes a minute."

setup-e2e: ## install what tests/e2e runs: Prometheus, Alertmanager, ... (Debian)
	@config/setup.sh e2e

setup-packages: ## install what builds the RPM and the deb, and roots to try them in (Debian)
	@config/setup.sh packages

setup-runtimes: ## install the runtimes that tests/runtimes plays (Debian; a gigabyte)
	@config/setup.sh runtimes

setup-kernels: ## install what tests/kernels boots other kernels with: QEMU (Debian)
	@config/setup.sh kernels

test-kernels: dev setup-kernels ## run the live tests' core on other kernels, emulated (ARCH=arm64 KERNEL=image MODULES=folder CPUS=2)
	@$(PYTHON) -m tests.kernels $(if $(KERNEL),--kernel $(KERNEL)) $(if $(MODULES),--modules $(MODULES)) \
		$(if $(ARCH),--arch $(ARCH)) $(if $(CPUS),--cpus $(CPUS))

manual: dev ## regenerate the man pages and the shell completions (config/manual)
	@$(PYTHON) config/make-manual.py

manifests: dev setup-e2e ## regenerate the schema of the Helm chart and the plain manifests (config/helm, config/kubernetes)
	@$(PYTHON) config/make-manifests.py

snapshot: dev ## rewrite agent/snapshot.py for Python 2.7 (config/snapshot)
	@$(PYTHON) config/make-snapshot.py

soak: dev ## play random fd programs under the probes (PROGRAMS=10000 SEED=...)
	@exec $(PYTHON) -m tests.soak --programs $(PROGRAMS) $(if $(SEED),--seed $(SEED))

theatre: dev ## play random plays under the tracer, with the truth known (PLAYS=10000 SEED=...)
	@exec $(PYTHON) -m tests.theatre --plays $(PLAYS) $(if $(SEED),--seed $(SEED))

soak-spawns: dev ## a million spawns beside an agent: exact counts, constant memory (SPAWNS=1000000)
	@exec $(PYTHON) -m tests.soak_spawns --spawns $(SPAWNS)

setup-bench: ## install the tracers that tests/bench compares with (Debian)
	@config/setup.sh bench

bench: dev setup-bench ## measure the cost, untraced and compared with other tracers (BENCH=--help)
	@exec $(PYTHON) -m tests.bench $(BENCH)

bench-fleet: dev setup-e2e ## a thousand simulated agents and one Prometheus: series, memory, query times (FLEET=--help)
	@exec $(PYTHON) -m tests.bench.fleet $(FLEET)

dashboards: dev ## regenerate the dashboards and rules (RUNBOOKS=URL)
	@$(PYTHON) -m dashboards $(if $(RUNBOOKS),--runbooks $(RUNBOOKS))

preview: dashboards ## draw the dashboards to dashboards/*.png (Debian, npm)
	@config/setup.sh preview
	$(PYTHON) -m dashboards.preview.preview

lint: dev ## check style and types
	@$(MAKE) --no-print-directory lint-only

lint-only: style
	$(TYPES)

style:
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	.venv/bin/shellcheck --external-sources $(SHELL_FILES)
	.venv/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*
	.venv/bin/zizmor --quiet --offline .github/workflows
	.venv/bin/clang-format --dry-run --Werror $(C_FILES)

fuzz: dev ## the fuzz tests, with many more examples (FUZZ_EXAMPLES=2000)
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(PYTHON) -m pytest tests/unit/*/test_fuzz_*.py

lock: ## regenerate the lists of dependencies with their hashes (LOCK=--upgrade)
	@config/lock.sh $(LOCK)

audit: ## check the locked dependencies for known vulnerabilities (PyPI)
	@config/audit.sh

pin: ## write the digests of the base images into the Dockerfile and CI (skopeo or docker)
	@config/pin.sh

wheel: ## build the wheel into dist, reproducibly
	@config/setup.sh check
	@config/wheel.sh dist

rpm: setup-packages ## build the RPM for RHEL 9 and 10 into dist, reproducibly
	@config/rpm.sh dist

deb: setup-packages ## build the deb into dist, reproducibly
	@config/deb.sh dist

packages: dev wheel rpm deb ## build all packages twice, and run each in clean roots (SUITES="bookworm trixie"; root, eBPF)
	SUITES="$(SUITES)" $(PYTHON) -m pytest tests/roots/test_packages.py

test-ansible: dev setup-e2e ## play the Ansible role in a root of Debian (root)
	$(PYTHON) -m pytest tests/roots/test_ansible.py

sbom: ## list the packages that a host or an image gets (CycloneDX), in dist (IMAGE=of an image)
	@mkdir -p dist
ifdef IMAGE
	$(ENGINE) run --rm --entrypoint cat $(IMAGE) $(IMAGE_SBOM) >dist/spawnstall-image.cdx.json
else
	/usr/bin/python3 config/sbom.py >dist/spawnstall.cdx.json
endif

dev:
	@config/setup.sh dev
