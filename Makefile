# `make demo` and `make test` do all set-up by themselves, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

SCANNERS := $(VENV)/scanners/.installed

.PHONY: setup demo test test-slow lint types imports wheel clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"zoo needs Python 3.11 to 3.13, {sys.executable} is {v[0]}.{v[1]}: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[full,timm,qat,prune,tensorboard,package,sign,triton,mlflow,ray,dev]"
	mkdir -p $(VENV)/src && ln -sfn ../.. $(VENV)/src/zoo
	touch $(STAMP)

$(SCANNERS): tests/scanners.txt
	$(PYTHON) -m venv $(VENV)/scanners
	$(VENV)/scanners/bin/pip install --quiet --requirement tests/scanners.txt
	touch $(SCANNERS)

demo: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/demo.sh

test: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n 2 --dist loadfile

test-slow: setup $(SCANNERS)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow --timeout=1800 -n 2 --dist worksteal --durations=15

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: setup
	$(BIN)/basedpyright

imports: setup
	cd $(VENV)/src && ../bin/lint-imports --config $(CURDIR)/pyproject.toml

wheel: setup
	sh .ci/wheel

clean:
	rm -rf $(VENV) build dist *.egg-info
