# `make demo`, `make walkthroughs` and `make test` need nothing but git and make: each calls `setup`.

VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.installed
# Tests run in so many processes, a file in one; labs wait more than they compute.  In the
# order of their names, for the long ones come early then.
WORKERS ?= 2

.DELETE_ON_ERROR:
.PHONY: help setup packages demo walkthroughs test lint fuzz bench clean

help:
	@echo 'make setup        install what is missing and make $(VENV) (as root: also apt packages)'
	@echo 'make demo         a lab with every kind of traffic (as root)'
	@echo 'make walkthroughs the stories of netns-scripts (as root; WALK=hairpin for one of them)'
	@echo 'make test         every test; those that need namespaces only as root'
	@echo 'make lint         ruff, mypy and C warnings'
	@echo 'make fuzz         libFuzzer over the C core, 10 minutes a target (FUZZ_SECONDS=600)'
	@echo 'make bench        dataplanes side by side, then microbenchmarks (as root; BENCH=--quick is short)'
	@echo 'make maglev       the Maglev paper'\''s figures from our own tables (10 minutes)'
	@echo 'make clean        remove $(VENV) and everything built'

setup: $(STAMP)

# Looked at every time, for root may install what an ordinary user could only be told of.
packages:
	@tools/setup.sh packages

$(STAMP): pyproject.toml setup.py src/pylb/_build.py $(wildcard csrc/*.[ch]) | packages
	@tools/setup.sh venv $(VENV)
	@touch $@

# Root is asked for before anything is installed.
demo:
	@test "$$(id -u)" -eq 0 || { echo 'make demo: needs root: run sudo make demo' >&2; exit 1; }
	@$(MAKE) --no-print-directory setup
	@$(VENV)/bin/pylb demo

# PYLB_DATAPLANE=python runs them on another dataplane than native.
walkthroughs:
	@test "$$(id -u)" -eq 0 || \
		{ echo 'make walkthroughs: needs root: run sudo make walkthroughs' >&2; exit 1; }
	@$(MAKE) --no-print-directory setup
	@tools/walkthroughs.sh $(WALK)

test: setup
	@$(PYTHON) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: setup
	@$(PYTHON) -m pytest -q tests/unit/test_style.py tests/unit/test_arrows.py

# What is found worth keeping stays in build/fuzz, for the next time.
fuzz: setup
	@FUZZ_SECONDS=$${FUZZ_SECONDS:-600} FUZZ_CORPUS=build/fuzz/corpus \
		$(PYTHON) -m pytest -s tests/fuzz

# BENCH=--quick takes 3 minutes instead of 40; the table and the pictures are in results/.
bench:
	@test "$$(id -u)" -eq 0 || { echo 'make bench: needs root: run sudo make bench' >&2; exit 1; }
	@$(MAKE) --no-print-directory setup
	@$(PYTHON) -c 'import matplotlib' 2>/dev/null || \
		$(PYTHON) -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@$(VENV)/bin/pylb bench --out results $(BENCH)
	@$(PYTHON) -m pytest -q bench/micro

maglev: setup
	@$(PYTHON) -c 'import matplotlib' 2>/dev/null || \
		$(PYTHON) -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@$(PYTHON) bench/maglev.py --out results

clean:
	rm -rf $(VENV) build src/pylb.egg-info src/pylb/_core.abi3.so
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
