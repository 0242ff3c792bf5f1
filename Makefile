# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.installed

CONFIG ?= configs/synthetic.yaml configs/tiny.yaml
ROOT   ?=
RUN    ?= runs/latest
MEDIA  ?=
ARGS   ?=

SETTINGS = $(CONFIG) $(if $(ROOT),corpus.root=$(ROOT)) $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint format preprocess train evaluate inspect verify corpus bench-faces bench-flow bench-loader bench-train lock clean

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  e.g. make preprocess CONFIG=configs/ravdess.yaml ROOT=/data/RAVDESS ARGS=\"faces.size=128 workers=8\""

setup: $(STAMP) ## make the environment (.venv) from the lock file

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "Python 3.11, 3.12 or 3.13 is needed; name it: make setup PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

demo: $(STAMP) ## draw the synthetic corpus, preprocess, train, evaluate on unseen speakers
	$(PY) -m pipeline preprocess configs/synthetic.yaml
	$(PY) -m model train configs/synthetic.yaml configs/tiny.yaml train.run=runs/demo
	$(PY) -m model evaluate runs/demo

test: $(STAMP) ## lint and run the tests (a few minutes)
	$(PY) -m ruff check .
	$(PY) -m pytest -m "not slow and not gpu"

test-all: $(STAMP) ## the slow tests too
	$(PY) -m pytest

lint: $(STAMP) ## check style
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(STAMP) ## apply style
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

preprocess: $(STAMP) ## raw clips to feature caches   [CONFIG= ROOT= ARGS=]
	$(PY) -m pipeline preprocess $(SETTINGS)

train: $(STAMP) ## feature caches to a trained network [CONFIG= RUN= ARGS=]
	$(PY) -m model train $(SETTINGS) train.run=$(RUN)

evaluate: $(STAMP) ## score a run on its test speakers    [RUN=]
	$(PY) -m model evaluate $(RUN)

inspect: $(STAMP) ## picture of a clip's features         [MEDIA=clip.mp4]
	$(PY) -m pipeline inspect $(MEDIA) --set $(CONFIG) $(ARGS)

corpus: $(STAMP) ## draw the synthetic corpus alone
	$(PY) -m pipeline draw $(SETTINGS)

bench-faces: $(STAMP) ## faces: ours against detection on every frame
	$(PY) -m benchmarks.faces

bench-flow: $(STAMP) ## flow: ours against torchvision's RAFT
	$(PY) -m benchmarks.flow $(ARGS)

bench-loader: $(STAMP) ## loader: ours against h5py, LitData, WebDataset (installs them) and memcpy
	$(PY) -m pip install --quiet --disable-pip-version-check --editable .[bench]
	$(PY) -m benchmarks.loader $(ARGS)

bench-train: $(STAMP) ## training: an epoch from caches against a batch in memory
	$(PY) -m benchmarks.train $(ARGS)

verify: $(STAMP) ## check every byte of the caches       [CONFIG= ARGS=]
	$(PY) -m pipeline verify $(SETTINGS)

lock: ## resolve pyproject.toml anew into requirements.lock (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --quiet --no-emit-index-url \
		--constraint constraints.txt --output-file requirements.lock

clean: ## remove corpora, caches and runs made here (the environment stays)
	rm -rf raw cache runs bench-cache inspect
