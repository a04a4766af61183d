# Rootbound. `make demo` and `make test` start from nothing; finished work is skipped.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
UI := widgets/ui
STAMPS := $(VENV)/.stamps
UI_SOURCES := $(shell find $(UI) -type f -not -path '*/node_modules/*' -not -path '*/lib/*' -not -name '*.tsbuildinfo' 2>/dev/null)
PACKAGES := lda backend server_ext widgets
# The demo and `make lab` share one state folder, apart from the user's own.
DEMO_HOME ?= $(HOME)/.local/state/rootbound-demo
PYTEST_ARGS ?=
# Longest time that one script of `make bench` may take, in seconds.
BENCH_LIMIT_S ?= 900

.PHONY: help install demo lab test check unit integration security e2e bench build tools clean down

help: ## Show the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMPS)/venv: pyproject.toml widgets/rootbound/_version.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Rootbound needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@echo "Installing Python packages into $(VENV) ..."
	@[ -x $(PY) ] || $(PYTHON) -m venv $(VENV)
	@# uv takes a tenth of pip's time; pip knows this machine's own configuration (mirrors).
	@{ $(PIP) 'uv>=0.8,<1' && UV_SYSTEM_CERTS=1 $(BIN)/uv pip install --quiet --python $(PY) -e '.[server,dev]'; } 2>/dev/null \
	  || $(PIP) -e '.[server,dev]'
	@# uv leaves compiling to the first import, but confined kernels cannot write its cache: each of
	@# their starts would compile anew. What is no Python 3 among the packages' files is passed over.
	@$(PY) -m compileall -q -j 0 "$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
	  >/dev/null 2>&1 || true
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/npm: $(STAMPS)/venv $(UI)/package.json $(UI)/package-lock.json
	@command -v npm >/dev/null || { echo "Building the front end needs Node.js 20 or newer with npm; install it and run make again." >&2; exit 1; }
	@echo "Installing npm packages ..."
	@cd $(UI) && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

$(STAMPS)/ui: $(STAMPS)/npm $(UI_SOURCES)
	@echo "Building the front end ..."
	@cd $(UI) && npm run --silent build
	@touch $@

# Installed once more after the front end exists, so that the labextension and the server
# configuration land in the environment's share/ and etc/ folders.
$(STAMPS)/install: $(STAMPS)/ui server_ext/jupyter-config/rootbound_server_ext.json
	@$(PIP) --no-deps -e .
	@touch $@

install: $(STAMPS)/install ## Install everything into the virtual environment

demo: install ## Do the main job on a real project, from a sentence to a merged change
	ROOTBOUND_HOME="$(DEMO_HOME)" $(BIN)/rootbound demo

lab: install ## Open JupyterLab on the demo's data
	ROOTBOUND_HOME="$(DEMO_HOME)" $(BIN)/rootbound up
	ROOTBOUND_HOME="$(DEMO_HOME)" $(BIN)/jupyter lab --notebook-dir=notebooks $(if $(filter 0,$(shell id -u)),--allow-root)

down: ## Stop the demo's services
	ROOTBOUND_HOME="$(DEMO_HOME)" $(BIN)/rootbound down

# What the tests use beside Python and Node, from Debian where we may install it: a browser,
# strace (the audit is compared with it) and bubblewrap (the outer wall).
tools: $(STAMPS)/venv
	@missing=""; \
	command -v chromium >/dev/null || command -v google-chrome >/dev/null || [ -n "$${ROOTBOUND_CHROMIUM:-}" ] || missing="chromium fonts-dejavu-core"; \
	command -v strace >/dev/null || missing="$$missing strace"; \
	command -v bwrap >/dev/null || missing="$$missing bubblewrap"; \
	[ -n "$$missing" ] || exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing $$missing ..."; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; } >/dev/null; \
	else \
	  echo "Not installed: $$missing. Tests that need strace or bubblewrap are skipped without them."; \
	  case "$$missing" in chromium*) \
	    echo "Trying Playwright's own browser. (Or: install the package chromium, or set ROOTBOUND_CHROMIUM.)"; \
	    $(PY) -m playwright install chromium;; \
	  esac; \
	fi

check: install ## Lint, types, migrations and the TypeScript compiler
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd $(UI) && npm run --silent typecheck && npm run --silent test

unit: install
	$(PY) -m pytest tests/unit $(PYTEST_ARGS)

integration: install tools
	$(PY) -m pytest tests/integration $(PYTEST_ARGS)

security: install tools
	$(PY) -m pytest tests/security $(PYTEST_ARGS)

e2e: install tools
	$(PY) -m pytest tests/e2e $(PYTEST_ARGS)

test: check tools ## From nothing to all tests passed
	$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

bench: install tools ## Measure, as ratios in one run; the tables go to benchmarks/results
	@# Each writes its table as it goes; one that fails does not keep the next from running.
	@failed=""; began=$$SECONDS; \
	for script in $$(grep -l __main__ benchmarks/*.py); do \
	  echo "== $$script"; start=$$SECONDS; \
	  timeout --foreground --kill-after=60 $(BENCH_LIMIT_S) $(PY) $$script || failed="$$failed $$script"; \
	  echo "== $$script took $$((SECONDS - start)) s"; \
	done; \
	echo "All took $$((SECONDS - began)) s."; \
	[ -z "$$failed" ] || { echo "Broke off, or fell short of an aim:$$failed" >&2; exit 1; }

build: install ## Build the wheel and the sdist
	$(PY) -m build --outdir dist

clean: ## Remove what was built (not the state folder)
	rm -rf $(VENV) dist $(UI)/node_modules $(UI)/lib server_ext/rootbound_server_ext/labextension widgets/rootbound/static
