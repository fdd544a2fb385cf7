# `make demo` and `make test` install what they need into .venv, once, and run. PYTHON chooses the interpreter.

PYTHON ?= python3
# Test processes at a time, each with one thread: more of either only pays with cores to spare.
JOBS ?= 2
DEMO_ARGS ?=
TRANSFER_ARGS ?=
DEMO_CHECKPOINT := work_dirs/demo/best_knn.pth

VENV_PYTHON := .venv/bin/python
GOAL = $(firstword $(MAKECMDGOALS))
CHOSEN := $(if $(filter command environment,$(firstword $(origin PYTHON))),--chosen)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo demo-transfer test test-all lint doctor clean distclean

# $(call setup,groups): installs them, or stops with one sentence that says what to do.
define setup
@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 6))' >/dev/null 2>&1 || { \
	echo 'error: "$(PYTHON)" is no Python 3.10 or newer: install Python 3.12, then run "make $(GOAL) PYTHON=python3.12".' >&2; \
	exit 2; }
@"$(PYTHON)" tools/setup_venv.py $(CHOSEN) --goal $(GOAL) $(1)
endef

help:
	@echo 'make demo           pre-train MST on the built-in pictures, write its report, print its k-NN accuracy (minutes)'
	@echo 'make demo-transfer  fine-tune its backbone: detection, segmentation, classification (half an hour)'
	@echo 'make test           lint, types and tests'
	@echo 'make test-all       the same, with the slow tests'
	@echo 'make lint           lint and types only'
	@echo 'make doctor         what is installed, what is missing, and the command that mends it'
	@echo 'make clean          remove caches and build folders'
	@echo 'make distclean      also remove .venv'
	@echo
	@echo 'Options: PYTHON=python3.12 (the interpreter)  JOBS=2 (test processes)  DEMO_ARGS="..." (passed to the demo)'
	@echo '         TRANSFER_ARGS="..." (passed to tools/transfer.py)'

demo:
	$(call setup,runtime)
	@$(VENV_PYTHON) tools/demo.py $(DEMO_ARGS)

demo-transfer:
	$(call setup,runtime)
	@test -f $(DEMO_CHECKPOINT) || $(VENV_PYTHON) tools/demo.py $(DEMO_ARGS)
	@$(VENV_PYTHON) tools/transfer.py --pretrained $(DEMO_CHECKPOINT) --from-scratch-too $(TRANSFER_ARGS)

lint:
	$(call setup,runtime tests)
	@$(VENV_PYTHON) -m ruff check
	@$(VENV_PYTHON) -m ruff format --check
	@$(VENV_PYTHON) -m mypy

test: PYTEST_ARGS = -m "not slow"
test test-all: lint
	@OMP_NUM_THREADS=1 MPLBACKEND=Agg $(VENV_PYTHON) -m pytest -q -n $(JOBS) $(PYTEST_ARGS)

doctor:
	$(call setup,runtime)
	@$(VENV_PYTHON) -m mstkit.doctor

clean:
	@rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	@find mstkit tools tests configs -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	@rm -rf .venv
