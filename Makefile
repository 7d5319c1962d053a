# Commands that stay. Everything happens in this folder: the environment is .venv, nothing is installed elsewhere.
# GNU make, POSIX sh. PYTHON=python3.12 picks an interpreter; ARGS="..." passes arguments on.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := images,samples,text,test,dev
PYTHON ?=
SEEDS ?= 20
ARGS ?=
CHECKED := src tests bench
SIDE_BY_SIDE := -n 2 --dist loadfile
CHROMIUM := /usr/bin/chromium

.DEFAULT_GOAL := help
.PHONY: help install run test check format chromium reference sim clean clean-all

help: ## this list
	@echo "Isthmus. Two commands to begin with:"
	@echo
	@echo "  make run     sets itself up and runs the main job on sample data"
	@echo "  make test    sets itself up and passes the tests"
	@echo
	@echo "All:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name what; do \
		printf '%-18s %s\n' "$$name" "$$what"; done

install: $(STAMP) ## environment in .venv with all that run, test and bench need

$(STAMP): pyproject.toml
	@set -e; \
	if ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		found=; \
		for python in $(PYTHON) python3.11 python3.12 python3.13 python3 python; do \
			if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
		done; \
		if [ -z "$$found" ]; then \
			echo "error: no Python 3.11 or newer with venv was found; next: install one (Debian: apt-get install python3 python3-venv) or give PYTHON=path" >&2; \
			exit 1; \
		fi; \
		echo "[1/2] making $(VENV) with $$found ($$($$found -c 'import platform; print(platform.python_version())'))"; \
		$$found -m venv --clear $(VENV); \
	else \
		echo "[1/2] $(VENV) is there ($$($(BIN)/python -c 'import platform; print(platform.python_version())'))"; \
	fi; \
	echo "[2/2] installing isthmus[$(EXTRAS)] into $(VENV): some hundred MB, one to three minutes the first time"; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]' || { \
		echo "error: pip could not install the packages; next: check the network, then run make install again" >&2; exit 1; }; \
	touch $(STAMP); \
	echo "installed; $(BIN)/isthmus --help shows the commands"

run: install ## install, then the main job: isthmus run solar-cell-inspection (ARGS="--json" and others)
	@$(BIN)/isthmus run solar-cell-inspection $(ARGS)

chromium: ## says whether the browser is there that the tests of the pages drive
	@if [ ! -x $(CHROMIUM) ]; then \
		echo "error: $(CHROMIUM) is missing, and the tests of the pages drive it; next: as root, apt-get install chromium" >&2; exit 1; fi

test: install chromium ## install what tests need, then pass the tests (ARGS="-k words" chooses some)
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(ARGS)

check: install chromium ## what CI runs: format, lint, types, imports, house rules, tests
	@echo "[1/6] format";      $(BIN)/ruff format --check $(CHECKED)
	@echo "[2/6] lint";        $(BIN)/ruff check $(CHECKED)
	@echo "[3/6] types";       $(BIN)/mypy --strict src
	@echo "[4/6] imports";     $(BIN)/lint-imports
	@echo "[5/6] house rules"; $(BIN)/python -m pytest tests/house
	@echo "[6/6] tests";       $(BIN)/python -m pytest $(SIDE_BY_SIDE) --ignore=tests/house

format: install ## put files into the house's format
	@$(BIN)/ruff format $(CHECKED)
	@$(BIN)/ruff check --fix $(CHECKED)

reference: install ## write docs/reference anew from the code
	@$(BIN)/isthmus schema docs/reference

sim: install ## the seeded simulator, SEEDS=n seeds
	@$(BIN)/python -m pytest tests/sim --seeds $(SEEDS) $(ARGS)

clean: ## remove caches and builds; the environment and the state folder stay
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests bench -type d -name __pycache__ -prune -exec rm -rf {} +

clean-all: clean ## also remove the environment
	rm -rf $(VENV)
