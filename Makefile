# Each target creates .venv by itself on first use. Another interpreter: make PYTHON=python3.12 demo
PYTHON ?= python3
PY := .venv/bin/python
READY := .venv/.installed
PEERS := diffrax envpool gymnax jax sbx-rl stable-baselines3 torch torchdiffeq torchsde
export OMP_NUM_THREADS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo bench-peers test lint types wheel-check clean

help:
	@echo "make demo         train on two problems beside PPO and SAC, with a table and a figure (4 minutes)"
	@echo "make bench-peers  install what \`rlcore bench\` compares with into .venv-peers (2 minutes)"
	@echo "make test         the test suite"
	@echo "make lint         ruff: rules and format"
	@echo "make types        mypy --strict on an installed copy"
	@echo "make wheel-check  build the wheel and install it beside packages with like names"
	@echo "make clean        remove what was built; .venv and runs stay"

demo: $(READY)
	@$(PY) -m rlcore.experiments.demo

bench-peers: .venv-peers/.installed

.venv-peers/.installed: constraints-peers.txt
	@.venv-peers/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv-peers
	@.venv-peers/bin/python -m pip install -qq --progress-bar off -c constraints-peers.txt $(PEERS)
	@touch $@

test: $(READY)
	@$(PY) -m pytest --numprocesses=2 --dist=worksteal

lint: $(READY)
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

types: $(READY)
	@rm -rf build
	@$(PY) -m pip install -qq --no-deps --no-build-isolation --target build/typecheck .
	@MYPYPATH=build/typecheck $(PY) -m mypy -p rlcore

wheel-check: $(READY)
	@$(PY) tests/structure/wheel_check.py

clean:
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "rlcore needs Python 3.11 or newer, '$(PYTHON)' is: $$($(PYTHON) --version 2>&1 | head -n 1); use make PYTHON=python3.12"; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "installing into .venv; torch is large, so the first time takes some minutes"
	@$(PY) -m pip install -qq --progress-bar off -c constraints.txt -e ".[dev]"
	@touch $(READY)
