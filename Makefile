# Two commands matter: `make book` and `make test`. Both need Python 3.11 and make, nothing else.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= auto
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadscope

.DEFAULT_GOAL := help
.PHONY: help book chapters site live pdf release lighthouse test verify unit nbval site-test check
.PHONY: lint lock manifest stale bench sphinx-check mutate kills extras cluster clean

help: ## Show what each target does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | \
	  awk -F'\t' '{ printf "  make %-10s %s\n", $$1, $$2 }'

book: chapters site ## Environment, chapters run headless, the site in _build/html

chapters: $(VENV)/.ready ## Run the chapters whose notebook, library or data changed
	$(BIN)/sizewise run --in-place

site: $(VENV)/.ready ## Build the site from the chapters as they are
	$(BIN)/python scripts/build_site.py

live: $(VENV)/.ready ## Gather Python for the browser, so that chapters run on the site; then make site
	$(BIN)/python scripts/live.py

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

# What is not here is deselected by its marker, so that a skip in `make test` is news.
PACKAGES_HERE = $(notdir $(wildcard $(VENV)/lib/python3*/site-packages/*))
QUICK = not slow and not gpu and not cached and not peer \
  $(if $(SIZEWISE_PUBLISHED),,and not published) \
  $(foreach package,ray triton,$(if $(filter $(package),$(PACKAGES_HERE)),,and not $(package)))

unit: $(VENV)/.ready ## Tests of the library, the data, the command line and the set-up
	$(PYTEST) -m "$(QUICK)" --ignore-glob 'tests/test_site*.py' tests

nbval: $(VENV)/.ready ## Run every chapter again and compare with its stored outputs
	$(PYTEST) --nbval --nbval-kernel-name python3 -p no:cacheprovider chapters

site-test: $(VENV)/.ready ## Build the site and look at every page in a Chromium
	$(BIN)/python -m pytest -m "not slow" tests/test_site*.py

check: verify nbval ## All tests: also slow ones, of a GPU, of downloads, beside other libraries
	$(PYTEST) --ignore-glob 'tests/test_site*.py' tests
	$(BIN)/python -m pytest tests/test_site*.py

mutate: $(VENV)/.ready ## 200 random changes of data and library; prints what no test saw; an hour or two
	$(PYTHON) -m venv _build/mutate/venv
	_build/mutate/venv/bin/pip install --quiet --disable-pip-version-check cosmic-ray==8.7.0
	_build/mutate/venv/bin/python scripts/mutate.py --python $(BIN)/python --thorough \
	  --seed $(or $(SEED),0)

kills: $(VENV)/.ready ## 20 kills each of a sweep, a chapter, a comparison, a download; ten minutes
	$(BIN)/python scripts/kills.py

extras: $(VENV)/.ready ## Triton, for the kernels in its interpreter, and Ray: `make test` then uses both
	$(PIP) "triton==3.6.0" "ray==2.60.0"

cluster: extras ## A Ray cluster of two nodes, one killed in mid-run, gives the rows of an unbroken one
	$(BIN)/python -m pytest tests/test_engine.py -k nodes

bench: $(VENV)/.ready ## Time the book's speed claims, each as a ratio in one run
	$(BIN)/python scripts/bench.py

stale: $(VENV)/.ready ## Say which facts have grown old: catalogue, prices, deadlines of claims
	$(BIN)/python scripts/stale.py

lint: $(VENV)/.ready ## Style, common mistakes, arrows between rooms, types of the public rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

COMPILE := _build/lock/bin/pip-compile --quiet --strip-extras --no-emit-index-url \
  --no-emit-find-links --no-emit-trusted-host

lock: ## Renew requirements.txt and requirements-hashed.txt from requirements.in
	$(PYTHON) -m venv _build/lock
	_build/lock/bin/pip install --quiet pip-tools==7.6.2
	$(COMPILE) --output-file requirements.txt requirements.in
	$(COMPILE) --no-annotate --allow-unsafe --generate-hashes --output-file requirements-hashed.txt \
	  requirements.txt
	sed -i 's/^\(torch==[0-9.]*\)+cpu$$/\1/' requirements.txt

# jupyter-book's own extensions go, and Sphinx 9 stands before the book's Sphinx 7 on the path.
sphinx-check: $(VENV)/.ready ## Build the same sources with plain Sphinx 9, the way out when jupyter-book 1 ages
	$(PYTHON) -m venv _build/sphinx9
	_build/sphinx9/bin/pip install --quiet --disable-pip-version-check "sphinx>=9,<10" "sphinx-book-theme>=1.4" \
	  "myst-nb>=1.4" sphinx-design sphinx-external-toc sphinx-togglebutton sphinx-copybutton sphinx-exercise \
	  sphinxcontrib-bibtex sphinx-thebe sphinxcontrib-katex sphinx-sitemap sphinx-reredirects sphinxext-opengraph
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$(_build/sphinx9/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/book.pth"
	$(BIN)/jupyter-book config sphinx . >/dev/null
	sed -i -E "s/'(jupyter_book|sphinx_comments|sphinx_jupyterbook_latex|sizewise_speed)', //g" conf.py
	echo 'import sys; sys.path[:0] = ["book/_ext", "book"]' >> conf.py
	_build/sphinx9/bin/sphinx-build -q -b html . _build/plain; status=$$?; rm conf.py; exit $$status

clean: ## Remove what was built; the environment stays
	rm -rf _build

# A half-made environment has no .ready and is made again. requirements.txt installs on any machine.
# LOCK=requirements-hashed.txt checks every file by its SHA-256, but fits only what the workflow
# runs on (Linux, x86-64, Python 3.11, the CPU build of torch): torch from PyPI wants packages of
# NVIDIA's that the CPU build does not, so no list of hashes is right for both. With TORCH_INDEX
# torch alone comes from there, and everything else from the default index.
LOCK ?= requirements.txt
TORCH_INDEX ?=
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

$(VENV)/.ready: $(LOCK) pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
ifneq ($(TORCH_INDEX),)
	awk '/^torch==/ {go = 1} go; go && !/\\$$/ {exit}' $(LOCK) > $(VENV)/torch.txt
	$(PIP) --no-deps --index-url $(TORCH_INDEX) -r $(VENV)/torch.txt
endif
	$(PIP) -r $(LOCK)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@
