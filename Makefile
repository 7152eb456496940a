# Everything runs from a bare clone with python3 (3.11 to 3.13), pip and venv.
#   make demo    the whole story on generated videos, in a few minutes
#   make demo-detection  Mask R-CNN and Keypoint R-CNN on generated images
#   make test    the test suite
#   make docs    the documentation as a site, in site/
SHELL := /bin/bash
VENV ?= .venv
PYTHON := $(VENV)/bin/python
# The first interpreter that Keras 3.15 and TensorFlow 2.20 both have wheels for.
PYTHON3 ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	2>/dev/null && echo $$p && break; done)

# The tests come in tiers; a marker puts a test into another than the first.
#   make test           in minutes, on TensorFlow alone: what a developer runs
#   make test-slow      marked `slow`: takes long, or repeats on a larger scale what
#                       the first tier tests
#   make test-hostile   marked `hostile`: thousands of damaged videos, shards,
#                       checkpoints and weight files, killed runs; most of an hour; CI
#                       leaves it out
#   make test-recipes   marked `recipes`: every file of configs/ at its number of
#                       replicas, two steps, evaluated and exported; hours; CI has
#                       those of every kind, marked `slow`
#   make test-backends  marked `backends`: needs JAX or PyTorch; and the portable
#                       tests of the first tier once more on each of the two
#   make test-beam      marked `beam`: needs Apache Beam, which is installed in $(VENV)
#   make test-browser   marked `browser`: pages in Chromium, the system's or that of
#                       `playwright install chromium`
#   make test-runtimes  marked `runtimes`: exports for OpenVINO, ONNX Runtime and LiteRT,
#                       which are installed in $(VENV); by hand, not in CI
#   make test-serving   marked `serving`: MLServer with an export, under load; by hand
# The tier `tfio` needs an environment of its own (tests/trainers/data/test_tfio.py).
# Tests run side by side, those of one module in the same process; each process holds
# a TensorFlow of its own, 1 to 2 GB: hence at most 4. One folder alone:
# `make test TESTS=tests/layers`; one process, to debug: `make test PROCESSES=0`.
TESTS ?=
PROCESSES ?= logical
PYTEST = $(PYTHON) -m pytest --numprocesses $(PROCESSES) --maxprocesses 4 \
	--dist loadscope
PORTABLE = tests/ops tests/layers tests/models tests/convert/test_load.py \
	tests/convert/test_sources.py tests/convert/test_inflation_of_images.py \
	tests/parity tests/test_receptive_field.py tests/test_visualize.py \
	tests/test_attention_analysis.py tests/test_attention_page.py
DEMO_OPTIONS ?=
BENCH_OPTIONS ?=

.PHONY: install demo demo-detection test test-backends test-beam test-browser test-runtimes test-serving serve-demo test-hostile test-recipes test-slow bench docs lint clean

install: $(VENV)/.installed

$(PYTHON):
	@test -n "$(PYTHON3)" || { echo "error: Python 3.11, 3.12 or 3.13 is needed \
	(set PYTHON3=/path/to/python3)" >&2; exit 1; }
	$(PYTHON3) -m venv $(VENV)
	@$(PYTHON) -m pip install -qq --upgrade pip

# Rebuilt only when what it installs has changed.
$(VENV)/.installed: pyproject.toml setup.py | $(PYTHON)
	@echo "Installing into $(VENV): 2 GB, a few minutes the first time ..."
	$(PYTHON) -m pip install -qq --editable '.[train,test]'
	@touch $@

# JAX and PyTorch beside TensorFlow, for the tests on the other backends.
$(VENV)/.installed-backends: $(VENV)/.installed
	$(PYTHON) -m pip install -qq --editable '.[backends]'
	@touch $@

demo: install
	$(PYTHON) examples/demo.py $(DEMO_OPTIONS)

demo-detection: install
	$(PYTHON) examples/demo_detection.py $(DEMO_OPTIONS)

test: install
	$(PYTEST) $(TESTS)

test-backends: $(VENV)/.installed-backends
	$(PYTEST) -m backends
	KERAS_BACKEND=jax $(PYTEST) -m 'not slow and not hostile' $(PORTABLE)
	KERAS_BACKEND=torch $(PYTEST) -m 'not slow and not hostile' $(PORTABLE)

$(VENV)/.installed-beam: $(VENV)/.installed
	$(PYTHON) -m pip install -qq --editable '.[beam]'
	@touch $@

test-beam: $(VENV)/.installed-beam
	$(PYTEST) -m beam $(TESTS)

$(VENV)/.installed-browser: $(VENV)/.installed
	$(PYTHON) -m pip install -qq --editable '.[browser]'
	@touch $@

test-browser: $(VENV)/.installed-browser
	$(PYTEST) -m browser $(TESTS)

$(VENV)/.installed-runtimes: $(VENV)/.installed
	$(PYTHON) -m pip install -qq --editable '.[openvino,onnx,litert]'
	@touch $@

test-runtimes: $(VENV)/.installed-runtimes
	$(PYTEST) -m runtimes $(TESTS)

$(VENV)/.installed-mlserver: $(VENV)/.installed
	$(PYTHON) -m pip install -qq --editable '.[mlserver]'
	@touch $@

test-serving: $(VENV)/.installed-mlserver
	$(PYTEST) -m serving $(TESTS)

# The export of the demo in MLServer: one video is asked about, the answer compared.
serve-demo: $(VENV)/.installed-mlserver
	@test -f demo/export/1/saved_model.pb || $(MAKE) demo
	$(PYTHON) examples/serving/serve.py demo/export \
		--once "$$(find demo/videos -name '*.mp4' | sort | tail -n 1)"

test-hostile: install
	$(PYTEST) --dist load -m hostile $(TESTS)

test-recipes: install
	$(PYTEST) --dist load -m recipes $(TESTS)

test-slow: install
	$(PYTEST) -m slow $(TESTS)

# Hours. What has changed since benchmarks/records/ is printed; `--record` keeps the new
# figures. make bench BENCH_OPTIONS="--record --peer-python python-with-torch"
bench: install
	@for script in $(filter-out benchmarks/scaling.py,$(wildcard benchmarks/*.py)); do \
	echo "== $$script"; $(PYTHON) $$script $(BENCH_OPTIONS) || exit 1; done
	$(PYTHON) benchmarks/scaling.py

# Needs no backend: the API reference is read from the sources, without an import.
$(VENV)/.installed-docs: pyproject.toml setup.py | $(PYTHON)
	$(PYTHON) -m pip install -qq --editable '.[docs]'
	@touch $@

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict
	@echo "The site is in $(CURDIR)/site: open index.html, or with search:"
	@echo "  python3 -m http.server --directory site"

lint: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

clean:
	rm -rf $(VENV) demo demo_detection runs site build dist *.egg-info
