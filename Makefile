# make demo | test | test-unit | test-all | schema | pictures | bench | clean
PYTHON ?= python3
SUPPORTED := 3.11 3.12 3.13 3.14

# What an install copies: when one of these is newer than the stamp, the install is stale.
PACKAGING := pyproject.toml README.md LICENSE scripts/proctally src/proctally/record/__init__.py
SOURCES := $(shell find src -name '*.py' -o -name py.typed 2>/dev/null)

PIP := -m pip --disable-pip-version-check --quiet install

# Where it is set, each of the many interpreters that tests start compiles what it loads.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-unit test-all schema pictures bench clean lint test-unit-full tools

help:
	@echo "make demo      track a small job and print its summary"
	@echo "make test      lint, types and every test"
	@echo "make test-unit the tests without a process, in less than a minute"
	@echo "make test-all  the fast tests on each supported CPython found ($(SUPPORTED))"
	@echo "make schema    write what is generated from the table of fields"
	@echo "make pictures  take the pictures of docs/images from real runs (needs chromium)"
	@echo "make bench     measure cost, accuracy and start-up"
	@echo "make clean     remove what the other commands made"

demo: .venv/installed-wheel
	.venv/bin/proctally run -- sh examples/build.sh

# Unit tests share the cores, and keep their many small files in memory where there is a /dev/shm. The other tests wait
# more than they work, so there are four at once on any machine; those with the mark `alone` measure, and run one after
# the other. What fails in either is repeated once, by itself: other work on the machine can be in a measurement.
PYTEST = .venv/bin/python -m pytest
SPREAD = -n auto --maxprocesses 4
AGAIN = --last-failed --last-failed-no-failures none
UNIT = TMPDIR=$(or $(wildcard /dev/shm),$(TMPDIR),/tmp) $(PYTEST) $(SPREAD)
REST = --hypothesis-profile=full tests/project tests/integration tests/system

test: .venv/made
	@$(MAKE) --no-print-directory --jobs 2 --output-sync tools lint test-unit-full
	$(PYTEST) -n 4 --dist loadfile -m "not alone" $(REST) || $(PYTEST) $(AGAIN) -m "not alone" $(REST); shared=$$?; \
	{ $(PYTEST) -m alone $(REST) || $(PYTEST) $(AGAIN) -m alone $(REST); } && exit $$shared

lint: .venv/installed-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports
	.venv/bin/mypy

test-unit-full: .venv/installed-dev
	$(UNIT) --hypothesis-profile=full tests/unit

test-unit: .venv/installed-dev
	$(UNIT) -m "not slow" tests/unit tests/project

schema: .venv/installed-dev
	.venv/bin/python scripts/schema.py

pictures: .venv/installed-dev
	.venv/bin/python scripts/pictures.py

bench: .venv/installed-wheel
	.venv/bin/python $(PIP) '.[prometheus,top,parquet,report]' playwright
	.venv/bin/python bench/run.py

# One .venv, two ways to fill it. The demo and the benchmarks install a wheel, as a user does; the tests install
# an editable one, which cannot be stale, and of all that it needs only what is imported is compiled. Each removes the
# other's stamp.
.venv/installed-wheel: .venv/made $(PACKAGING) $(SOURCES)
	@rm -f .venv/installed-dev
	.venv/bin/python $(PIP) .
	sed -i '1s/\( -I\)*$$/ -I/' .venv/bin/proctally
	@touch $@

.venv/installed-dev: .venv/made $(PACKAGING)
	@rm -f .venv/installed-wheel
	.venv/bin/python $(PIP) --no-compile --editable '.[dev]'
	@touch $@

.venv/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	    { echo "proctally needs Python 3.11 or newer, and '$(PYTHON)' is not: try make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	    { echo "'$(PYTHON)' lacks venv: install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	@touch $@

# Some tests compare with a loop in C or with other tools, or track programs; where one is missing they are skipped.
TOOLS := cc:gcc iostat:sysstat ip:iproute2 losetup:mount unshare:util-linux free:procps strace:strace tmux:tmux \
	chromium:chromium openssl:openssl cmake:cmake ninja:ninja-build busybox:busybox
# These are taken out of their packages and not installed: installed, they would be services of this machine.
SERVERS := prometheus prometheus-pushgateway prometheus-node-exporter
UNPACKED := .venv/servers
export PATH := $(CURDIR)/$(UNPACKED)/usr/bin:$(PATH)
tools: .venv/made
	@missing=; servers=; \
	for tool in $(TOOLS); do command -v $${tool%:*} >/dev/null || missing="$$missing $${tool#*:}"; done; \
	for server in $(SERVERS); do command -v $$server >/dev/null || servers="$$servers $$server"; done; \
	command -v apt-get >/dev/null && [ -n "$$missing$$servers" ] || exit 0; \
	if [ "$$(id -u)" = 0 ]; then apt-get -qq update >/dev/null; fi; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ]; then \
	    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing libc6-dev >/dev/null || \
	    echo "could not be installed, tests that need it are skipped:$$missing"; \
	fi; \
	if [ -n "$$servers" ]; then \
	    { mkdir -p $(UNPACKED) && cd $(UNPACKED) && apt-get -qq download $$servers 2>/dev/null && \
	      for package in *.deb; do dpkg -x "$$package" . || exit; done; } || \
	    echo "could not be downloaded, tests that need it are skipped:$$servers"; \
	    rm -f $(CURDIR)/$(UNPACKED)/*.deb; \
	fi

test-all:
	@failed=; missing=; \
	for version in $(SUPPORTED); do \
	    python=; \
	    for candidate in python$$version $$(pyenv root 2>/dev/null)/versions/$$version.*/bin/python$$version; do \
	        if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1])' \
	            $$version >/dev/null 2>&1; then python=$$candidate; break; fi; \
	    done; \
	    if [ -z "$$python" ]; then missing="$$missing $$version"; continue; fi; \
	    echo "== CPython $$version ($$python)"; \
	    $(MAKE) --no-print-directory .venv-$$version/installed FOUND="$$python" && \
	    .venv-$$version/bin/python -m pytest -m "not slow" || failed="$$failed $$version"; \
	done; \
	if [ -n "$$missing" ]; then echo "not found, not tested:$$missing"; fi; \
	if [ "$$missing" = "$(SUPPORTED:%= %)" ]; then echo "no supported CPython found" >&2; exit 1; fi; \
	if [ -n "$$failed" ]; then echo "failed:$$failed" >&2; exit 1; fi

.venv-%/installed: $(PACKAGING)
	"$(FOUND)" -m venv --clear .venv-$*
	.venv-$*/bin/python $(PIP) --no-compile --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv .venv-* build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
