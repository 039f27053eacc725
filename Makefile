# Everything a developer or a newcomer runs. Each target installs what it needs into .venv by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# `make TORCH=cpu …` takes PyTorch's CPU-only build (smaller) where its download site is reachable.
TORCH ?=

.PHONY: install demo test test-fast lint types layers bench quality lock clean

$(INSTALLED): pyproject.toml constraints.txt
	@echo "eddyline: installing into $(VENV) (the first time takes about a minute: PyTorch is large)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt \
		$(if $(TORCH),--torch-backend $(TORCH)) --editable . --group dev
	@mkdir -p $(VENV)/src/eddyline
	@for package in stream replay model state; do ln -sfn ../../../$$package $(VENV)/src/eddyline/$$package; done
	@echo "eddyline: compiling its kernels (once)"
	@$(BIN)/python -m eddyline.model.warm_up
	@touch $@
	@echo "eddyline: installed"

install: $(INSTALLED)

demo: $(INSTALLED)
	@$(BIN)/eddyline demo $(ARGS)

test: $(INSTALLED)
	@$(BIN)/python -m pytest $(ARGS)

test-fast: $(INSTALLED)
	@$(BIN)/python -m pytest tests/unit tests/contract tests/property $(ARGS)

lint: $(INSTALLED)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(INSTALLED)
	@MYPYPATH=$(VENV)/src $(BIN)/mypy -p eddyline.stream -p eddyline.replay -p eddyline.model -p eddyline.state

layers: $(INSTALLED)
	@$(BIN)/lint-imports --no-logo

bench: $(INSTALLED)
	@$(BIN)/python -m tests.bench $(ARGS)

quality: $(INSTALLED)
	@$(BIN)/python tests/bench/quality.py $(ARGS)

# The peers need an older pandas than everything else, so their extra is locked in a file of its own.
LOCK := $(BIN)/uv pip compile --quiet --universal --no-header --no-annotate pyproject.toml

lock:
	@$(LOCK) --upgrade --group dev --extra s3 --extra gcs --extra tune --extra tensorboard --output-file constraints.txt
	@$(LOCK) --upgrade --extra peers --output-file constraints-peers.txt

clean:
	@rm -rf $(VENV) build *.egg-info
