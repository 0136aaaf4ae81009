# Needs make and Python 3.11 or newer; everything else goes into $(VENV), from requirements.lock.

VENV ?= .venv
PROFILE ?= quick
JOBS ?= 2

# The first of these that is new enough builds the environment.
PYTHON ?= python3 python3.13 python3.12 python3.11
new_enough = import sys; sys.exit(sys.version_info < (3, 11))
python = $(firstword $(foreach p,$(PYTHON),$(shell $(p) -c '$(new_enough)' 2>/dev/null && echo $(p))))

bin = $(VENV)/bin
sources = $(wildcard srlib tests notebooks benchmarks docs)
installed = $(VENV)/.installed
peers = $(VENV)/.peers
torch = $(VENV)-torch
one_in_blas = OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
one_thread = $(one_in_blas) NUMBA_NUM_THREADS=1
notebooks = $(one_thread) $(bin)/pytest -n $(JOBS) --dist loadfile --nbval --nbval-current-env --nbval-cell-timeout=600 notebooks/

.PHONY: help figures site pdf update test test-all exhaustive mutants test-torch test-browser bench bench-gpu lab lint lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

figures: $(installed) ## every figure and claim, into build/ (PROFILE=quick or paper, JOBS=2)
	$(bin)/srlib regenerate --profile $(PROFILE) --out build --jobs $(JOBS)
	$(bin)/srlib results --figures build/figures
	$(bin)/srlib claims --figures build/figures

site: $(installed) ## the companion as web pages in build/site: notebooks as run in build/, figures as committed
	$(bin)/srlib site build

pdf: $(installed) ## the same as one document, build/srlib.pdf, printed by Chromium
	$(bin)/python docs/pdf.py build build/srlib.pdf

update: $(installed) ## what is committed: figures that code has changed (and NOTEBOOKS="04 05"), results, notebooks
	$(bin)/srlib update $(NOTEBOOKS) --jobs $(JOBS)
	$(bin)/srlib results
	$(bin)/srlib claims
	$(bin)/jupyter nbconvert --to notebook --execute --inplace --log-level=ERROR \
	    --ExecutePreprocessor.record_timing=False --ExecutePreprocessor.extra_arguments=--log-level=ERROR notebooks/*.ipynb

bench: $(peers) ## speed of the kernels beside a floor and peers, and of an epoch beside its limit, into build/
	$(bin)/python benchmarks/rounding.py
	$(bin)/python benchmarks/epoch.py

bench-gpu: $(installed) ## speed of the CUDA kernel beside a copy on the device, into build/ (needs the extra gpu)
	$(bin)/python benchmarks/gpu.py

test: $(installed) ## the unit tests, then every notebook, output for output
	$(one_in_blas) $(bin)/pytest -n $(JOBS) --dist loadgroup -rs
	$(notebooks)

test-all: $(installed) ## the same, with what takes long: batches that are killed, guides, the wheel, other threads
	$(one_in_blas) $(bin)/pytest -n $(JOBS) --dist loadgroup --durations=20 -rs -m "not exhaustive and not browser"
	$(notebooks)

exhaustive: $(installed) ## every float32 rounded to the narrow formats, 150 epochs of MNIST in binary32, the PDF: up to 40 minutes
	$(one_in_blas) $(bin)/pytest -m exhaustive --durations=0

mutants: $(installed) ## faults planted by mutmut that the unit tests do not notice (MODULES="schemes statistics")
	$(one_in_blas) $(bin)/python tests/mutants.py $(MODULES)

test-torch: $(torch)/.installed ## PyTorch tensors; in an environment of its own, as PyTorch is large
	$(one_in_blas) $(torch)/bin/python -m pytest tests/test_tensors.py -rs

test-browser: $(installed) ## what Chromium shows: site, PDF, JupyterLab (SCREENSHOTS=build/lab: every notebook, with pictures)
	$(if $(SCREENSHOTS),SCREENSHOTS=$(SCREENSHOTS)) $(one_in_blas) $(bin)/pytest -m "browser and not exhaustive" -n $(JOBS) --dist loadgroup -rs

lab: $(installed) ## JupyterLab, with the index of the notebooks open
	$(bin)/jupyter lab --LabApp.default_url=/lab/tree/notebooks/00_index.ipynb

lint: $(installed) ## ruff: rules and formatting, notebooks too; mypy: the types of the public functions
	$(bin)/ruff check $(sources)
	$(bin)/ruff format --check $(sources)
	$(bin)/mypy

lock: ## pin what pyproject.toml asks for, keeping the pins that still fit (needs uv)
	uv pip compile pyproject.toml --extra companion --extra dev --quiet --output-file requirements.lock \
	    --universal --python-version 3.11 --fork-strategy fewest \
	    --generate-hashes --no-strip-extras --custom-compile-command 'make lock'

	uv pip compile pyproject.toml --extra bench --quiet --output-file benchmarks/requirements.lock \
	    --constraint requirements.lock --universal --python-version 3.11 --fork-strategy fewest \
	    --generate-hashes --no-strip-extras --custom-compile-command 'make lock'

clean: ## remove what was built, but not the environment
	rm -rf build dist *.egg-info .hypothesis .pytest_cache .ruff_cache .mypy_cache
	find $(sources) -name __pycache__ -prune -exec rm -rf {} +

# Starts over, in an emptied folder, when a dependency has changed.
$(installed): pyproject.toml requirements.lock
	@test -n '$(python)' || { echo 'srlib needs Python 3.11 or newer: make PYTHON=/path/to/python' >&2; exit 1; }
	$(python) -m venv $(if $(wildcard $@),--clear) $(VENV)
	$(bin)/pip install --quiet --require-hashes -r requirements.lock
	$(bin)/pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

# With what the other environment has beside it.
$(torch)/.installed: $(installed)
	$(python) -m venv --clear $(torch)
	$(torch)/bin/pip install --quiet torch==2.13.0
	ls -d $(abspath $(VENV))/lib/python*/site-packages > $$(ls -d $(torch)/lib/python*/site-packages)/borrowed.pth
	touch $@

$(peers): $(installed) benchmarks/requirements.lock
	$(bin)/pip install --quiet --require-hashes -r benchmarks/requirements.lock
	touch $@
