# Each target sets up what it needs into .venv; nothing has to be installed first but Python ≥ 3.11 with venv, and make.
PYTHON ?= python3
BIN := .venv/bin
# What is installed anew when it changes; the kernel among it, since one of another day would misread its structures.
BUILT_FROM := pyproject.toml setup.py constraints.txt $(wildcard model/kernel/*)
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

.PHONY: serve train test clients lint benchmark constraints clean
.DELETE_ON_ERROR:

# Serve the bundled model, or CHECKPOINT=folder.
serve: .venv/serving
	@$(BIN)/unroll serve $(CHECKPOINT)

# Train on the reference prose Python carries, or CORPUS=file, with FLAGS='--minutes 4'.
train: .venv/training
	@$(BIN)/unroll train $(CORPUS) $(FLAGS)

test: .venv/development
	@$(BIN)/python -m pytest

# Clients people already have, unmodified, against a real server.
clients: .venv/clients
	@$(BIN)/python -m pytest -m clients tests/clients

lint: .venv/development
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

# Figures as ratios measured in one run; printed, and written to benchmark.json.
benchmark: .venv/development
	@$(BIN)/python -m tests.benchmarks

clean:
	rm -rf .venv build *.egg-info model/_kernel*

.venv/serving: $(BUILT_FROM) | .venv/bin/python
	$(INSTALL) .
	@touch $@

.venv/training: $(BUILT_FROM) | .venv/bin/python
	$(INSTALL) '.[train]'
	@touch $@

.venv/development: $(BUILT_FROM) | .venv/bin/python
	$(INSTALL) '.[dev]'
	@touch $@

.venv/clients: $(BUILT_FROM) | .venv/bin/python
	$(INSTALL) '.[clients]'
	@touch $@

.venv/bin/python:
	$(PYTHON) -m venv .venv

# Renew the pins from the newest versions pyproject.toml admits.
constraints: .venv/bin/python
	$(BIN)/python -m pip install --quiet --upgrade --editable '.[dev]'
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu//' > constraints.new
	mv constraints.new constraints.txt
