# On a fresh machine `make demo` or `make test` makes the environment and then runs everything.
PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.installed

CONFIG ?= configs/synthetic.yaml configs/tiny.yaml
ROOT   ?=
RUN    ?= runs/latest
MEDIA  ?=
CORPUS ?=
OUT    ?=
RUNS   ?=
WORST  ?=
SEEDS  ?= 0,1,2,3,4
TESTS  ?=
ARGS   ?=

PIP_INSTALL = $(PY) -m pip install --disable-pip-version-check
# pip would compile every module on one core, which is half of an installation's work. The tests of packages and
# the networks of transformers (2,000 modules, of which a program uses a few) are compiled when they are imported.
# A file that Python cannot compile is no error, as for pip: some packages hold templates with names of modules.
COMPILE = $(PY) -c 'import compileall, re, sysconfig; \
	compileall.compile_dir(sysconfig.get_path("purelib"), maxlevels=20, quiet=2, workers=0, \
		rx=re.compile(r"/tests?/|/transformers/models/"))'
# The lock file names all packages, so that pip need not look for what each needs. Unpacking takes one core.
PIP_LOCKED = $(PIP_INSTALL) --no-deps --no-compile
OF_TORCH = '^(torch|torchvision|triton|nvidia|cuda)[a-z0-9-]*=='
# A log gets a line per package; a terminal gets pip's progress bars.
PIP_LINES = while read -r what name _; do case $$what in \
	Collecting|Processing) n=$$((n + 1)); echo "  package $$n: $${name\#\#*/}";; \
	Installing) echo "  installing $$n packages";; esac; done

SETTINGS = $(CONFIG) $(if $(ROOT),"corpus.root=$(ROOT)") $(ARGS)
# Later words win over earlier ones, so that ARGS may name the run, too.
RUN_SETTINGS = $(CONFIG) $(if $(ROOT),"corpus.root=$(ROOT)") "train.run=$(RUN)" $(ARGS)
DEFAULTED = $(if $(filter file,$(origin CONFIG)),$(shell echo 'note: no CONFIG= is given; the synthetic corpus is used: $(CONFIG)' >&2))

.DEFAULT_GOAL := help
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*\#\# .*/\1/p' $(firstword $(MAKEFILE_LIST)))

##@ Start
help: ## list the commands
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {print (n++ ? "\n" : "") substr($$0, 5) ":"} \
		/^[a-z-]+:.*## / {printf "  make %-21s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  e.g. make preprocess CONFIG=configs/ravdess.yaml ROOT=/data/RAVDESS ARGS=\"faces.size=128 workers=8\""

setup: $(STAMP) ## make the environment (.venv) from the lock file

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "Python 3.11, 3.12 or 3.13 is needed; name one: make setup PYTHON=python3.12"; exit 1; }
	@echo "making $(VENV) in 4 steps: some minutes and up to 7 GB, most of it PyTorch"
	@$(PYTHON) -c 'import shutil; gb = shutil.disk_usage(".").free / 1e9; \
		gb < 8 and print(f"warning: only {gb:.1f} GB are free here; if the disk fills, free some space and repeat")'
	@echo "step 1 of 4: the environment ($(PYTHON) -m venv $(VENV))"
	@$(PYTHON) -m venv $(VENV)
	@echo "step 2 of 4: the packages of requirements.lock (pip install), PyTorch's and the others beside each other"
	@grep -E $(OF_TORCH) requirements.lock >$(VENV)/torch.txt; grep -vE $(OF_TORCH) requirements.lock >$(VENV)/others.txt
	@$(PIP_LOCKED) --quiet --progress-bar off --requirement $(VENV)/others.txt >$(VENV)/others.log 2>&1 & others=$$!; \
		trap 'kill $$others 2>/dev/null' EXIT; \
		if [ -t 1 ]; then $(PIP_LOCKED) --requirement $(VENV)/torch.txt || exit; else exec 4>&1; \
		status=$$({ { PYTHONUNBUFFERED=1 $(PIP_LOCKED) --progress-bar off --requirement $(VENV)/torch.txt; echo $$? >&3; } | \
			{ $(PIP_LINES); } >&4; } 3>&1); [ "$$status" = 0 ] || exit $$status; fi; \
		echo "  PyTorch is there; waiting for the other packages"; \
		wait $$others || { status=$$?; cat $(VENV)/others.log; exit $$status; }
	@echo "step 3 of 4: Python compiles the packages, on all cores"
	@$(COMPILE)
	@echo "step 4 of 4: deiii itself, linked to this folder"
	@$(PIP_INSTALL) --quiet --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

DEMO := configs/synthetic.yaml configs/tiny.yaml train.run=runs/demo
demo: $(STAMP) ## generate the synthetic corpus, preprocess, train, evaluate on unseen speakers
	$(PY) -m deiii preprocess $(DEMO)
	$(PY) -m deiii train $(DEMO) --resume
	$(PY) -m deiii evaluate runs/demo --keep
	@echo 'open the report in a browser; next: "Your own clips" in README.md'

##@ Preprocess, train, predict
init: $(STAMP) ## look at a folder of recordings and write its config and table [ROOT=/clips ARGS=--yes]
	$(PY) -m deiii init $(if $(ROOT),"$(ROOT)") $(ARGS)

preprocess: $(STAMP) ## compute the feature caches of a corpus [CONFIG= ROOT= ARGS=]
	$(DEFAULTED)$(PY) -m deiii preprocess $(SETTINGS)

train: $(STAMP) ## train a network on the caches [CONFIG= ROOT= RUN= ARGS=]
	$(DEFAULTED)$(PY) -m deiii train $(RUN_SETTINGS)

evaluate: $(STAMP) ## score a run on its test speakers [RUN= ARGS=--again]
	$(PY) -m deiii evaluate "$(RUN)" $(ARGS)

overview: $(STAMP) ## write a page about a preprocessed corpus [CONFIG= ROOT= ARGS=]
	$(DEFAULTED)$(PY) -m deiii overview $(SETTINGS)

verify: $(STAMP) ## check every byte of the caches [CONFIG= ARGS=]
	$(PY) -m deiii verify $(SETTINGS)

inspect: $(STAMP) ## draw pictures and videos of clips [MEDIA=clip.mp4 or WORST=20]
	$(PY) -m deiii inspect $(MEDIA) $(if $(WORST),--worst $(WORST)) $(SETTINGS)

predict: $(STAMP) ## predict the emotion in media files [RUN= MEDIA= OUT=video.mp4]
	$(if $(MEDIA),,$(error name files or folders: make predict RUN=runs/demo MEDIA=clip.mp4))
	$(PY) -m deiii predict "$(RUN)" $(MEDIA) $(if $(OUT),--overlay "$(OUT)") $(ARGS)

compare: $(STAMP) ## compare runs, with paired intervals [RUNS="runs/a runs/b"]
	$(if $(RUNS),,$(error name two runs or more: make compare RUNS="runs/a runs/b"))
	$(PY) -m deiii compare $(RUNS) $(ARGS)

export: $(STAMP) ## write a run as one folder for use elsewhere [RUN= OUT=folder]
	$(PY) -m deiii export "$(RUN)" "$(or $(OUT),$(RUN)/export)" $(ARGS)

corpus: $(STAMP) ## make the synthetic corpus only
	$(PY) -m deiii synthesize $(SETTINGS)

download: $(STAMP) ## download a corpus [CORPUS=ravdess|crema_d ROOT= ARGS=]
	$(PY) -m deiii download $(CORPUS) $(if $(ROOT),"corpus.root=$(ROOT)") $(ARGS)

doctor: $(STAMP) ## check versions, devices, codecs, weights, memory and disk
	$(PY) -m deiii doctor $(ARGS)

##@ Experiments
sweep: $(STAMP) ## try settings and rank them by validation scores [CONFIG= RUN= ARGS="train.lr=[1e-3,2e-3]"]
	$(PY) -m deiii sweep $(RUN_SETTINGS)

crossval: $(STAMP) ## train and score every fold with every seed [CONFIG= RUN= ARGS="... --seeds 0,1"]
	$(PY) -m deiii crossval $(RUN_SETTINGS)

ablation: $(STAMP) ## remove the parts of DE-III in turn, on the synthetic corpus [ARGS=]
	$(PY) -m benchmarks.ablation $(ARGS)

ravdess: $(STAMP) ## cross-validate on RAVDESS audio, 6 folds, and compare with an SVM [ROOT= SEEDS=0 ARGS=]
	$(PY) -m deiii preprocess configs/ravdess_audio.yaml $(if $(ROOT),"corpus.root=$(ROOT)") $(ARGS)
	$(PY) -m deiii crossval configs/ravdess_audio.yaml $(if $(ROOT),"corpus.root=$(ROOT)") train.run=runs/ravdess_audio $(ARGS) --seeds $(SEEDS)
	$(PY) -m benchmarks.ravdess_svm $(if $(ROOT),"corpus.root=$(ROOT)") --against runs/ravdess_audio --out runs/ravdess_audio/svm.json

ravdess-speech: $(STAMP) ## cross-validate frozen encoders, and simple models on the same features, on RAVDESS voices, 6 folds [ROOT= SEEDS= ARGS=]
	$(PY) -m deiii preprocess configs/ravdess_speech.yaml $(if $(ROOT),"corpus.root=$(ROOT)") $(ARGS)
	$(PY) -m deiii crossval configs/ravdess_speech.yaml $(if $(ROOT),"corpus.root=$(ROOT)") train.run=runs/ravdess_speech $(ARGS) --seeds $(SEEDS)
	$(PY) -m benchmarks.encoder_reference configs/ravdess_speech.yaml $(if $(ROOT),"corpus.root=$(ROOT)") $(ARGS) --against runs/ravdess_speech --out runs/ravdess_speech/reference.json

emotional-av: $(STAMP) ## cross-validate audio, video and both on clips of few speakers (clips.csv), one speaker out [ROOT= SEEDS= ARGS=]
	$(PY) -m deiii preprocess configs/emotional_av.yaml $(if $(ROOT),"corpus.root=$(ROOT)") $(ARGS)
	$(PY) -m benchmarks.emotional_av configs/emotional_av.yaml $(if $(ROOT),"corpus.root=$(ROOT)") $(ARGS) --seeds $(SEEDS)
	$(PY) -m benchmarks.encoder_reference configs/emotional_av.yaml $(if $(ROOT),"corpus.root=$(ROOT)") $(ARGS) --against runs/emotional_av/both runs/emotional_av/both_by_speaker --out runs/emotional_av/reference.json

emotional-av-scratch: $(STAMP) ## cross-validate the same clips without encoders, and compare with runs/emotional_av [ROOT= SEEDS= ARGS=]
	$(PY) -m deiii preprocess configs/emotional_av_scratch.yaml $(if $(ROOT),"corpus.root=$(ROOT)") $(ARGS)
	$(PY) -m benchmarks.emotional_av configs/emotional_av_scratch.yaml $(if $(ROOT),"corpus.root=$(ROOT)") $(ARGS) --seeds $(SEEDS) --levels clip --folder runs/emotional_av_scratch --against runs/emotional_av

peers: $(STAMP) ## compare DE-III with other networks with the same settings, with paired intervals [CONFIG= ROOT= SEEDS= ARGS=, or TASK=order|binding|told|...]
	$(if $(TASK),,$(PY) -m deiii preprocess $(SETTINGS))
	$(PY) -m benchmarks.peers $(if $(TASK),--task $(TASK) --folds 0 $(if $(ROOT),"corpus.root=$(ROOT)") $(ARGS),$(SETTINGS)) --seeds $(SEEDS)

##@ Benchmarks
bench-predict: $(STAMP) ## measure prediction: real-time factor and start-up
	$(PY) -m benchmarks.predict

bench-evaluation-page: $(STAMP) ## measure an evaluation with its report, and the opening of an overview of 10,000 clips [ARGS=]
	$(PY) -m benchmarks.evaluation_page $(ARGS)

bench-faces: $(STAMP) ## measure faces: deiii against detection on every frame
	$(PY) -m benchmarks.faces

bench-detectors: $(STAMP) ## measure YuNet: onnxruntime against OpenCV
	$(PY) -m benchmarks.detectors

bench-active-speaker: $(STAMP) ## measure faces.pick=active: right choices and time [ARGS="--clips 'clips/*.mp4'"]
	$(PY) -m benchmarks.active_speaker $(ARGS)

bench-encoders: $(STAMP) ## measure frozen encoders: deiii against the libraries, one clip at a time [ARGS=]
	$(PY) -m benchmarks.encoders $(ARGS)

bench-crossval: $(STAMP) ## measure a cross-validation of cached features of frozen encoders [ROOT= SEEDS= ARGS="--runs 3"]
	$(PY) -m benchmarks.crossval configs/ravdess_speech.yaml $(if $(ROOT),"corpus.root=$(ROOT)") --seeds $(SEEDS) $(ARGS)

bench-accumulate: $(STAMP) ## measure memory and time of a training step whose batch is computed in parts [ARGS=]
	$(PY) -m benchmarks.accumulate $(ARGS)

bench-loader-changes: $(STAMP) ## measure what zoom, rotation and erasing of crops cost the loader [ARGS=]
	$(PY) -m benchmarks.loader_changes $(ARGS)

bench-preprocess: $(STAMP) ## measure preprocessing: 2 workers against a serial script and 1 worker
	$(PY) -m benchmarks.preprocess

bench-gpu-launches: $(STAMP) ## count launches of a training step and a flow batch on a fake GPU (needs g++) [ARGS=--short]
	$(PY) -m benchmarks.gpu_launches $(ARGS)

gpu-check: $(STAMP) ## check and measure what needs a real GPU, in under 9 minutes [ARGS="--only flow train"]
	$(PY) -m benchmarks.gpu_check $(ARGS)

bench-stage-host: $(STAMP) ## measure the pairs/s that the host work of a GPU worker allows
	$(PY) -m benchmarks.stage_host $(ARGS)

bench-flow: $(STAMP) ## measure flow: deiii against torchvision's RAFT
	$(PY) -m benchmarks.flow $(ARGS)

bench-loader: $(STAMP) ## measure the loader: deiii against h5py, LitData, WebDataset (installs them) and memcpy
	$(PY) -m pip install --quiet --disable-pip-version-check --editable .[bench]
	$(PY) -m benchmarks.loader $(ARGS)

bench-scaling: $(STAMP) ## estimate the costs of 10^4 to 10^8 clips [ARGS="gpu_hour=1.8 ..."]
	$(PY) -m benchmarks.scaling $(ARGS)

bench-train: $(STAMP) ## measure training: an epoch from caches against one from memory
	$(PY) -m benchmarks.train $(ARGS)

audit-known: $(STAMP) ## check the audit of splits on known leaks and on clean splits [ARGS="--emobox FOLDER"]
	$(PY) -m benchmarks.audit $(ARGS)

##@ Development
test: $(STAMP) ## check style and types, run the tests without the slow ones [TESTS=tests/data: these alone]
	$(if $(TESTS),,$(PY) -m ruff check .)
	$(if $(TESTS),,$(PY) -m mypy)
	$(PY) -m pytest -m "not slow and not gpu" $(TESTS)

test-all: $(STAMP) ## run all tests
	$(PY) -m pytest

test-package: $(STAMP) ## build the wheel, install it elsewhere and run its commands
	$(PY) -m pytest $(or $(TESTS),tests/package)

test-newest: $(STAMP) ## install the wheel with the newest packages, for each installed Python, and run it
	DEIII_NEWEST=1 $(PY) -m pytest -m slow tests/package/test_newest.py

test-faults: $(STAMP) ## inject faults into the real programs and check the results [ARGS=--short]
	$(PY) -m tests.faults $(ARGS)

test-cluster: $(STAMP) ## preprocess and train on several simulated machines, some of which fail
	$(PY) -m tests.cluster $(ARGS)

soak: $(STAMP) ## preprocess 5,000 small clips and check for memory growth and for files and processes that remain
	$(PY) -m benchmarks.soak $(ARGS)

lint: $(STAMP) ## check style and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: $(STAMP) ## format the code
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

docs: $(STAMP) ## write the reference of settings and the picture of the architecture
	$(PY) docs/make_reference.py
	$(PY) docs/make_architecture.py

site: $(STAMP) ## build the documentation as a site in site/ and check links (installs mkdocs-material)
	$(PY) -m pip install --quiet --disable-pip-version-check --editable .[site]
	$(PY) -m mkdocs build --strict --quiet

lock: ## resolve pyproject.toml into requirements.lock (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --quiet --no-emit-index-url \
		--constraint constraints.txt --output-file requirements.lock

clean: ## remove corpora, caches and runs made here (the environment stays)
	rm -rf raw cache runs bench-cache inspect predict exported prediction.mp4
