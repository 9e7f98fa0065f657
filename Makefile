# Every command sets up what it needs: only Python 3.11 or newer with pip and venv has to be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: debian demo test-avx2 test-cluster test test-all faults check install dashboard gpu clean

demo: $(INSTALLED)  ## LoRA at four ranks beside full fine-tuning, on an embedded model and real texts
	$(BIN)/python run.py -m lora.r=1,4,8,64

test: $(INSTALLED)  ## the whole default suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not gpu and not cluster"

test-all: $(INSTALLED)  ## the default suite and what takes longer
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not gpu and not cluster"

test-avx2: $(INSTALLED)  ## what depends on a CPU's arithmetic, as one without AVX512 and AMX computes it
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile \
	  -m "not slow and not gpu and not cluster" tests/contracts/test_methods.py tests/methods tests/evaluation \
	  tests/models/test_experts.py tests/models/test_routing.py tests/models/test_split.py tests/models/test_fast_attention.py \
	  tests/models/test_fast_dropout.py tests/artifacts/test_merge.py tests/training/test_precision.py

faults: $(INSTALLED)  ## studies under kill -9 at many random moments; `make test` has a sample of it
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/execution/test_forks.py tests/search/test_faults.py tests/search/test_storage.py tests/search/test_controller.py

test-cluster: $(INSTALLED)  ## as root, on a Slurm of four nodes and a Ray that are started for it on this machine
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/cluster -rs

gpu: $(INSTALLED)  ## what needs a CUDA device: tests, and the benchmark of backends into results/
	$(BIN)/python -m pytest -m gpu
	$(BIN)/python benchmarks/backends.py --out results/backends_gpu.json

check: $(INSTALLED)  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

dashboard: $(INSTALLED)  ## the MLflow page over what was recorded
	$(BIN)/lora-bench dashboard

install: $(INSTALLED)

debian:  ## as root, the servers that some tests start for themselves; without them those tests are skipped
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql; }

$(INSTALLED): pyproject.toml requirements/constraints.txt requirements/assets.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) -c requirements/constraints.txt -e ".[dev]"
	$(PIP_INSTALL) --no-deps --require-hashes -r requirements/assets.txt
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
