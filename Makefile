# Two commands matter: `make book` and `make test`. Both need Python 3.11 and make, nothing else.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= auto
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadscope

.DEFAULT_GOAL := help
.PHONY: help book chapters site pdf release lighthouse test verify unit nbval site-test check lint lock
.PHONY: manifest stale bench clean

help: ## Show what each target does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | \
	  awk -F'\t' '{ printf "  make %-10s %s\n", $$1, $$2 }'

book: chapters site ## Environment, chapters run headless, the site in _build/html

chapters: $(VENV)/.ready ## Run the chapters whose notebook, library or data changed
	$(BIN)/sizewise run --in-place

site: $(VENV)/.ready ## Build the site from the chapters as they are
	$(BIN)/python scripts/build_site.py

pdf: $(VENV)/.ready ## The built site as one PDF in _build/pdf, where there is a Chromium
	$(BIN)/python scripts/pdf.py

release: site ## Build the site and pack it, with its checksums, into _build/release
	$(BIN)/python scripts/release.py

lighthouse: $(VENV)/.ready ## Scores of the built pages on a phone and a desktop; takes minutes
	$(BIN)/python scripts/lighthouse.py

test: verify unit nbval site-test ## Unit, data and set-up tests, chapters against their outputs, the pages

verify: $(VENV)/.ready ## Rows, facts and chapters against their seals and the manifest; seconds
	$(BIN)/sizewise verify

manifest: $(VENV)/.ready ## Write data/manifest.yml anew, after a change that was meant
	$(BIN)/sizewise verify --renew

unit: $(VENV)/.ready ## Tests of the library, the data, the command line and the set-up
	$(PYTEST) -m "not slow" --ignore-glob 'tests/test_site*.py' tests

nbval: $(VENV)/.ready ## Run every chapter again and compare with its stored outputs
	$(PYTEST) --nbval --nbval-kernel-name python3 -p no:cacheprovider chapters

site-test: $(VENV)/.ready ## Build the site and look at every page in a Chromium
	$(BIN)/python -m pytest tests/test_site*.py

check: $(VENV)/.ready ## Everything in test, and the tests that take minutes
	$(PYTEST) --ignore-glob 'tests/test_site*.py' tests
	$(MAKE) nbval site-test

bench: $(VENV)/.ready ## Time the book's speed claims, each as a ratio in one run
	$(BIN)/python scripts/bench.py

stale: $(VENV)/.ready ## Say which facts have grown old: catalogue, prices, deadlines of claims
	$(BIN)/python scripts/stale.py

lint: $(VENV)/.ready ## Style and common mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lock: ## Renew requirements.txt from requirements.in
	$(PYTHON) -m venv _build/lock
	_build/lock/bin/pip install --quiet pip-tools==7.6.2
	_build/lock/bin/pip-compile --quiet --strip-extras --no-emit-index-url --no-emit-find-links \
	  --no-emit-trusted-host --output-file requirements.txt requirements.in
	sed -i 's/^\(torch==[0-9.]*\)+cpu$$/\1/' requirements.txt

clean: ## Remove what was built; the environment stays
	rm -rf _build

# A half-made environment has no .ready and is made again.
$(VENV)/.ready: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@
