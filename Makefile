# Each target sets itself up. PYTHON: the Python (3.11 or newer) that makes the environment.
PYTHON ?= python3
TASK ?= phantom
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: run test test-slow lab notebooks lint setup

run: $(READY)            ## execute notebook 05 from start to end and print the final report
	$(PY) notebooks/execute.py run 05 --task $(TASK)

test: $(READY)           ## everything a change must pass, 30 minutes at most on two cores
	$(PY) -m ruff check .
	$(PY) -m pytest --cov=medtl_utils --cov-branch --cov-report=term:skip-covered --cov-fail-under=90

test-slow: $(READY)      ## the rest: second processor profile, coverage by simulation, hostile inputs
	$(PY) -m pytest -m slow --override-ini addopts="-q --strict-markers"

lab: $(READY)            ## open the course in JupyterLab
	$(PY) -m jupyterlab --notebook-dir=notebooks

notebooks: $(READY)      ## execute all notebooks in clean kernels, store their outputs, show what changed
	$(PY) notebooks/execute.py refresh

setup: $(READY)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	@echo "Installing (torch is large: about 2 minutes, 5.5 GB) ..."
	$(PY) -m pip install --quiet --editable '.[test]'
	@touch $(READY)
