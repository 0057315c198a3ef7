# `make demo` and `make test` set up everything on a fresh machine and do not repeat what is done.
#
#   make check, make test, make test-all  under 2 minutes, at most 10, at most 60: CONTRIBUTING.md says what each holds
#   make demo LKOPS_ISAS=all           compile every instruction set; else this machine's widest alone, until test-all
#   make test PYTHON=python3 VENV=     use an existing Python that has torch; installs with --no-deps
#   make bench BENCH="-k attention"    a part of the benchmarks: printed, not written (BENCH=--list names the rows)
#   make gpu PYTHON=python3 VENV=      the same; GPU="--only bench" for a piece, GPU=--dry-run without a GPU

VENV ?= .venv
PYTHON ?= python3
# the registry's newest torch brings gigabytes of CUDA; pinned here and not in pyproject.toml
TORCH ?= torch==2.13.0
TRITON ?= triton==3.7.0
JOBS ?= 2

ifeq ($(VENV),)
PY := $(PYTHON)
INSTALLED := build/installed$(subst /,_,$(PYTHON))
else
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
TESTED := $(VENV)/.test-dependencies
endif

# what setup.py compiles; the tests of every instruction set need all of them, and who has them keeps them
LKOPS_ISAS ?= $(if $(filter test-all,$(MAKECMDGOALS))$(wildcard $(INSTALLED)-all),all,native)
READY := $(INSTALLED)-$(LKOPS_ISAS)

SOURCES := $(shell find csrc -type f) setup.py pyproject.toml
# one thread in each of JOBS processes, and none that spins while it waits where a test takes two: threads of several
# processes that wait for each other on two cores take ages. `worksteal` leaves a module's tests to one process, which
# makes its fixtures once, until the other has nothing left
PYTEST = OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(PY) -m pytest -q --durations=15 \
	$$($(PY) -c "import xdist" 2>/dev/null && echo "-n $(JOBS) --dist worksteal")

.PHONY: demo test test-all check lint docs wheel sanitize bench ahead-of-time gpu clean

demo: $(READY)
	$(PY) -m lkcanet.cli demo

test: $(READY) $(TESTED) lint
	$(PYTEST) -m "not exhaustive"

# also random sweeps, other compilers, every instruction set, sanitizers
test-all: $(READY) $(TESTED) lint
	$(PY) -m tests.oldest_torch
	$(PYTEST)

check: $(READY) $(TESTED)
	$(PYTEST) -m "not slow and not exhaustive"

lint: $(READY) $(TESTED)
	@if $(PY) -c "import ruff" 2>/dev/null; then $(PY) -m ruff check . && $(PY) -m ruff format --check . ; \
	else echo "lint: ruff is not installed, skipped"; fi
	@if $(PY) -c "import mypy" 2>/dev/null; then $(PY) -m mypy; else echo "lint: mypy is not installed, skipped"; fi

# into build/docs, which opens from disk; needs no network
docs: $(READY) $(TESTED)
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet
	@echo build/docs/index.html

# source distribution and wheel into build/dist, checked, and tried in a fresh environment (WHEEL="--torch-alone 2.10.0")
wheel: $(READY)
	$(PY) -m pip install -q --disable-pip-version-check "lkops[wheel]"
	$(PY) -m tests.wheel $(WHEEL)

# the kernels without torch, under sanitizers; `make test-all` does this too
sanitize:
	$(MAKE) -C tests/csrc -j$(JOBS) address
	$(MAKE) -C tests/csrc -j$(JOBS) thread

bench: $(READY) $(TESTED)
	$(PY) -m bench.cpu.run $(BENCH)

# compiles new and changed Triton launches, and CUDA kernels where nvcc is, for GPUs into
# bench/results/*_ahead_of_time.*; needs none
ahead-of-time: $(READY) $(TESTED)
	$(PY) -m bench.without_gpu.ahead_of_time
	@if command -v nvcc >/dev/null || [ -n "$$CUDA_HOME" ]; then $(PY) -m bench.without_gpu.cuda_ahead_of_time; \
	else echo "ahead-of-time: no nvcc, CUDA kernels are left as they are"; fi

# not $(READY): it builds by itself, with CUDA, where no extension is there
gpu: $(TESTED)
	$(PY) -m bench.gpu $(GPU)

clean:
	rm -rf build .venv *.egg-info lkops/_C_*.so lkops/_build_facts.json

ifeq ($(VENV),)
$(READY): $(SOURCES)
	LKOPS_ISAS=$(LKOPS_ISAS) $(PY) -m pip install -q --no-build-isolation --no-deps -e .
	@rm -f $(INSTALLED)-* && mkdir -p $(@D) && touch $@
else
PIP = $(PY) -m pip install -q --disable-pip-version-check

$(PY):
	$(PYTHON) -m venv $(VENV)

# compiles beside the downloads, since both take long
$(VENV)/.dependencies: pyproject.toml | $(PY)
	$(PIP) "setuptools>=77" wheel
	@$(MAKE) --no-print-directory -j2 packages objects LKOPS_ISAS=$(LKOPS_ISAS)
	@touch $@

.PHONY: torch packages kernels objects
torch:
	$(PIP) $(TORCH) numpy

packages: torch
	LKOPS_BUILD=0 $(PIP) --no-build-isolation -e ".[demo]"

kernels objects:
	LKOPS_ISAS=$(LKOPS_ISAS) $(PY) setup.py $@

objects: torch kernels

# what the tests need besides; lkops itself is installed, and stays as it is
$(TESTED): $(VENV)/.dependencies
	$(PIP) $(TRITON) "lkops[test]"
	@touch $@

$(READY): $(SOURCES) $(VENV)/.dependencies
	LKOPS_ISAS=$(LKOPS_ISAS) $(PIP) --no-build-isolation --no-deps -e .
	@rm -f $(INSTALLED)-* && touch $@
endif
