# Everything runs from a bare clone with python3 (3.11 to 3.13), pip and venv.
#   make demo    the whole story on generated videos, in a few minutes
#   make test    the test suite
SHELL := /bin/bash
VENV ?= .venv
PYTHON := $(VENV)/bin/python
# The first interpreter that Keras 3.15 and TensorFlow 2.20 both have wheels for.
PYTHON3 ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	2>/dev/null && echo $$p && break; done)

.PHONY: install demo test test-backends test-slow bench lint clean

install: $(VENV)/.installed

# Rebuilt only when what it installs has changed.
$(VENV)/.installed: pyproject.toml setup.py
	@test -n "$(PYTHON3)" || { echo "error: Python 3.11, 3.12 or 3.13 is needed \
	(set PYTHON3=/path/to/python3)" >&2; exit 1; }
	@test -x $(PYTHON) || $(PYTHON3) -m venv $(VENV)
	@echo "Installing into $(VENV): 2 GB, a few minutes the first time ..."
	@$(PYTHON) -m pip install -qq --upgrade pip
	$(PYTHON) -m pip install -qq --editable '.[train,test]'
	@touch $@

# JAX and PyTorch beside TensorFlow, for the tests on the other backends.
$(VENV)/.installed-backends: $(VENV)/.installed
	$(PYTHON) -m pip install -qq --editable '.[backends]'
	@touch $@

demo: install
	$(PYTHON) examples/demo.py

test: install
	$(PYTHON) -m pytest

test-backends: $(VENV)/.installed-backends
	$(PYTHON) -m pytest -m backends -rP

test-slow: install
	$(PYTHON) -m pytest -m slow

bench: install
	@for script in benchmarks/*.py; do echo "== $$script"; $(PYTHON) $$script || exit 1; done

lint: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

clean:
	rm -rf $(VENV) demo runs build dist *.egg-info
