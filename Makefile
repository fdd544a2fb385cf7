# `make demo` and `make test` install what they need into .venv, once, and run. PYTHON chooses the interpreter.

PYTHON ?= python3
# Test processes at a time, each with one thread: more of either only pays with cores to spare.
JOBS ?= 2
DEMO_ARGS ?=
TRANSFER_ARGS ?=
DEMO_CHECKPOINT := work_dirs/demo/best_knn.pth

VENV_PYTHON := .venv/bin/python
PIP := $(VENV_PYTHON) -m pip
GOAL = $(firstword $(MAKECMDGOALS))

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo demo-transfer test test-all docs lint audit doctor clean distclean fresh-venv

# --- .venv ------------------------------------------------------------------------------------------------------------

# $(call version_of,interpreter,code to try first): such as 3.12, or nothing where it does not run.
version_of = $(shell "$(1)" -c '$(2)import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
TOO_OLD := 2.% $(addprefix 3.,0 1 2 3 4 5 6 7 8 9)
HERE := $(call version_of,$(PYTHON))
THERE := $(call version_of,$(VENV_PYTHON),import pip; )

# .venv is kept if it runs, has pip and is new enough; where the user named a PYTHON, it has to be of that version, too.
KEPT := $(filter-out $(TOO_OLD),$(THERE))
ifneq ($(filter command environment,$(firstword $(origin PYTHON))),)
KEPT := $(filter $(HERE),$(KEPT))
endif

COMMA := ,
# A stamp has a checksum of what the installation depends on in its name: when that changes, there is no such stamp.
stamp = .venv/$(1)-$(shell { { pwd; cat setup.py pyproject.toml $(2); } | cksum | tr -d ' '; } 2>/dev/null).stamp
RUNTIME := $(call stamp,runtime,requirements/runtime.txt)
TESTS := $(call stamp,tests,requirements/runtime.txt requirements/tests.txt)
DOCS := $(call stamp,docs,requirements/runtime.txt requirements/docs.txt)

$(RUNTIME): $(if $(KEPT),,fresh-venv)
	$(call install,.)
	@touch $(RUNTIME)

$(TESTS): $(if $(KEPT),,fresh-venv)
	$(call install,.[tests])
	@touch $(RUNTIME) $(TESTS)

# With the tests' packages, since an installation removes all stamps: the two would make each other necessary in turn.
$(DOCS): $(if $(KEPT),,fresh-venv)
	$(call install,.[tests$(COMMA)docs])
	@touch $(RUNTIME) $(TESTS) $(DOCS)

TRIED := python3.12 python3.11 python3.10 python3
NEWER = $(firstword $(foreach name,$(TRIED),$(if $(filter-out $(TOO_OLD),$(call version_of,$(name))),$(name))))

fresh-venv:
	@[ -n '$(HERE)' ] || { echo 'error: "$(PYTHON)" is no Python 3.10 or newer:' \
		'install Python 3.12, then run "make $(GOAL) PYTHON=python3.12".' >&2; exit 2; }
	@[ -z '$(filter $(TOO_OLD),$(HERE))' ] || { echo 'error: Python $(HERE) is too old, mstkit needs 3.10 or newer:' \
		'$(if $(NEWER),,install Python 3.12, then )run "make $(GOAL) PYTHON=$(or $(NEWER),python3.12)".' >&2; exit 2; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { echo 'error: Python $(HERE) came without its venv module:' \
		'install it (on Debian and Ubuntu "apt install python$(HERE)-venv"), then run "make $(GOAL)" again.' >&2; exit 2; }
	@echo '$(if $(filter-out $(HERE),$(THERE)),.venv has Python $(THERE): making it again,Making .venv) with Python $(HERE)'
	@"$(PYTHON)" -m venv --clear .venv || { echo 'error: Could not make .venv: free its disk or mend its permissions,' \
		'then run "make $(GOAL)" again.' >&2; exit 2; }

# $(call install,what), with no stamp left while pip works: what is interrupted half-way must not pass for installed.
# mmcv asks for the OpenCV that needs libGL of the system; the build named headless holds the same package without it.
define install
	@echo 'Installing mstkit into .venv: some gigabytes the first time'
	@rm -f .venv/*.stamp .venv/pip.log
	@$(PIP) install --disable-pip-version-check --log .venv/pip.log -e '$(1)' || { \
		if grep -qi 'no space left' .venv/pip.log; then \
			why='The disk is full: free about 15 GB (or set TMPDIR to a larger disk)'; \
		elif grep -qiE 'connection broken|timed out|max retries|name resolution|unreachable|proxyerror' .venv/pip.log; then \
			why='The package index cannot be reached: check the network connection (or the proxy settings of pip)'; \
		else \
			why='pip could not install mstkit, its own last lines above say why: mend that'; \
		fi; \
		echo "error: $$why, then run \"make $(GOAL)\" again." >&2; exit 2; }
	@$(VENV_PYTHON) -c 'import cv2' 2>/dev/null || { \
		echo 'This machine has no libGL: putting the headless build of OpenCV in place'; \
		$(PIP) freeze | sed -n 's/^opencv-python==/opencv-python-headless==/p' | \
		xargs -r $(PIP) install --force-reinstall --no-deps; }
endef

# --- what is run in it ------------------------------------------------------------------------------------------------

help:
	@echo 'make demo           pre-train MST on the built-in images, write its report, print its k-NN accuracy (minutes)'
	@echo 'make demo-transfer  take its backbone into six tasks, from detection to tracking (about 40 minutes)'
	@echo 'make test           lint, types and tests'
	@echo 'make test-all       the same, with the slow tests'
	@echo 'make docs           the documentation as a site, build/docs/html, with its links checked'
	@echo 'make lint           lint and types only'
	@echo 'make audit          warn of installed packages with known vulnerabilities'
	@echo 'make doctor         what is installed, what is missing, and the command that mends it'
	@echo 'make clean          remove caches and build folders'
	@echo 'make distclean      also remove .venv'
	@echo
	@echo 'Options: PYTHON=python3.12 (the interpreter)  JOBS=2 (test processes)  DEMO_ARGS="..." (passed to the demo)'
	@echo '         TRANSFER_ARGS="..." (passed to tools/transfer.py)'

demo: $(RUNTIME)
	@$(VENV_PYTHON) tools/demo.py $(DEMO_ARGS)

demo-transfer: $(RUNTIME)
	@test -f $(DEMO_CHECKPOINT) || $(VENV_PYTHON) tools/demo.py $(DEMO_ARGS)
	@$(VENV_PYTHON) tools/transfer.py --pretrained $(DEMO_CHECKPOINT) --from-scratch-too --jobs 2 $(TRANSFER_ARGS)

lint: $(TESTS)
	@$(VENV_PYTHON) -m ruff check
	@$(VENV_PYTHON) -m ruff format --check
	@$(VENV_PYTHON) -m mypy

test: PYTEST_ARGS = -m "not slow"
test test-all: lint
	@OMP_NUM_THREADS=1 MPLBACKEND=Agg $(VENV_PYTHON) -m pytest -q -n $(JOBS) $(PYTEST_ARGS)

test-all: $(DOCS)

docs: $(DOCS)
	@MPLBACKEND=Agg $(VENV_PYTHON) docs/build.py

audit: $(RUNTIME)
	@$(VENV_PYTHON) .ci/audit.py

doctor: $(RUNTIME)
	@$(VENV_PYTHON) -m mstkit.doctor

clean:
	@rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	@find mstkit tools tests configs -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	@rm -rf .venv
