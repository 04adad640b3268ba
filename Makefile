# Two commands matter: `make demo` answers the main question from nothing, `make test` checks everything.
PYTHON ?= python3
BIN := .venv/bin
# Tests that time real servers have the machine to themselves; all others run two at a time.
ALONE := tests/benchmarking tests/benchmarks tests/loadtests tests/serving \
	tests/test_bring_end_to_end.py tests/test_end_to_end.py
INSTALLED := .venv/.installed

.PHONY: demo test lint types contracts lock clean

# The literature's four configurations on the packaged encoder and generated news: built, load-tested, priced, reported.
# The baseline is kept in fp32 too, as a newcomer would serve it; of the others only int8, to stay within minutes.
demo: $(INSTALLED)
	$(BIN)/deploycost build --run demo --method full --model minilm --dataset demo --train-rows 800 --epochs 1
	$(BIN)/deploycost run --run demo --method full,qlora,prompt,stacked --artifacts onnx-int8 --precision quick

test: lint types contracts
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 $(addprefix --ignore=,$(ALONE))
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest $(ALONE)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/pyright

contracts: $(INSTALLED)
	$(BIN)/lint-imports

# The environment is exactly what the lock says; it is made anew when the lock changes.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "deploycost needs Python 3.11 or newer; try make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

# Resolves the newest versions that pyproject.toml allows, in a fresh environment, and writes them down.
lock:
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check '.[demo,dev,openvino]' torch==2.13.0
	.venv-lock/bin/python -m pip freeze --exclude deploycost | sed 's/+cpu$$//' > requirements.lock
	rm -rf .venv-lock

clean:
	rm -rf .venv .ruff_cache .pytest_cache build *.egg-info
