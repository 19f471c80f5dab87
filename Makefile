# Each target sets itself up. PYTHON: the Python (3.11 or newer) that makes the environment.
# CONSTRAINTS: the versions with which the stored outputs were made; empty: the newest that fit.
# TASK: what `make run` fine-tunes on: busi (real tumours), breastmnist, phantom (simulated), ...
# SEATS: how many people share the machine in `make lab`; each gets their share of its cores.
# WHEELS: the folder that `make wheelhouse` fills; OFFLINE=1 installs from it, without a network.
PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
TASK ?= busi
SEATS ?= 1
WHEELS ?= wheelhouse
OFFLINE ?=
# what the chapters need beside the package: everything but the tests
EXTRAS := imagenet,dicom,ecg,genes,adapters,small,machines
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
READY_TEST := $(VENV)/.ready-test
FROM = $(if $(OFFLINE),--no-index --find-links $(WHEELS))
PIP_INSTALL = $(PY) -m pip install --quiet $(FROM) $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) --editable
NO_INSTALL = (echo "The installation failed; the reason stands above. If a version of $(CONSTRAINTS) \
does not exist for this system, try: make CONSTRAINTS= $(or $(MAKECMDGOALS),setup)" >&2; exit 1)
# Threads are set before a kernel starts. A run that is ten times slower than printed has more
# threads than cores: they wait for each other. Then use fewer, e.g. make lab SEATS=2.
SHARE = import os; print(max(1, (os.cpu_count() or 1) // max(1, int("$(SEATS)"))))
OLD = import sys; sys.exit(sys.version_info < (3, 11) and \
"Python 3.11 or newer is needed: make PYTHON=python3.12")
PYTEST = $(PY) -m pytest

.PHONY: run lab notebooks lint check test test-slow setup classroom wheelhouse

run: $(READY)            ## notebook 05 from start to end on real tumours; prints the report
	$(PY) notebooks/execute.py run 05 --task $(TASK)

lab: $(READY)            ## open the course in JupyterLab; SEATS=30 on a server for thirty people
	@threads=$${OMP_NUM_THREADS:-$$($(PY) -c '$(SHARE)')} && echo "Threads a notebook: $$threads" && \
	OMP_NUM_THREADS=$$threads MKL_NUM_THREADS=$$threads OPENBLAS_NUM_THREADS=$$threads \
	$(PY) -m jupyterlab --notebook-dir=notebooks

notebooks: $(READY)      ## execute all notebooks, store their outputs, show what changed
	$(PY) notebooks/execute.py refresh

lint: $(READY_TEST)      ## style and format of code and notebooks
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

check: lint              ## under a minute: style, reading rules, exercises, tables against prose
	$(PYTEST) -m "check and not slow"

test: lint               ## everything a change must pass, about 36 minutes on two cores
	$(PYTEST) --cov -p tests.clock --durations=30

test-slow: $(READY_TEST) ## the rest: Run All in the browser, another processor, simulations
	$(PYTEST) -m slow

classroom: $(READY)      ## what SEATS=30 need of memory, disk and time, and whether it is here
	$(PY) notebooks/classroom.py --seats $(SEATS)

# torch and torchvision are one pair: both come from one index, in one call, as the constraints say.
# pip, hatchling and editables are what an editable installation asks for.
wheelhouse: $(VENV)/bin/python ## all wheels of the course into WHEELS, for machines without network
	@echo "Filling $(WHEELS): several GB, most of it what torch brings for graphics cards ..."
	$(PY) -m pip wheel --quiet --wheel-dir $(WHEELS) $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) \
	pip hatchling editables '.[$(EXTRAS)]'
	@du -sh $(WHEELS) && echo "For this system and this version of Python. Install without a network:" \
	&& echo "  python3 -m venv .venv" && echo "  .venv/bin/python -m pip install --no-index \
	--find-links $(WHEELS) --editable '.[$(EXTRAS)]'"

setup: $(READY)

$(VENV)/bin/python:
	@$(PYTHON) -c '$(OLD)'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet $(FROM) --upgrade pip

$(READY): pyproject.toml $(CONSTRAINTS) | $(VENV)/bin/python
	@echo "Installing (torch is large: about 2 minutes, 5.5 GB) ..."
	$(PIP_INSTALL) . || $(NO_INSTALL)
	@touch $@

$(READY_TEST): $(READY)
	$(PIP_INSTALL) '.[test]' || $(NO_INSTALL)
	@touch $@
