# Two commands do everything on a fresh machine with Python 3.11: `make demo` and `make test`. `make slow` runs the tests
# that take longest, which `make test` leaves out.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SMOKE := build/smoke

.PHONY: demo test slow check lint types imports docs smoke clean

demo: $(VENV)/.demo-installed
	$(BIN)/dtcwsi demo

test: $(VENV)/.dev-installed
	$(BIN)/pytest -n 2 --dist loadfile -m "not slow"

slow: $(VENV)/.dev-installed
	$(BIN)/pytest -n 2 --dist load -m slow

check: lint types imports docs smoke

lint: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev-installed
	$(BIN)/mypy

imports: $(VENV)/.dev-installed
	$(BIN)/lint-imports

docs: $(VENV)/.dev-installed
	$(BIN)/mkdocs build --strict --quiet --site-dir build/site

smoke: $(VENV)/.dev-installed
	rm -rf $(SMOKE)
	$(BIN)/dtcwsi demo --smoke --out $(SMOKE)

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo-installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[encoders]'
	touch $@

$(VENV)/.dev-installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@ $(VENV)/.demo-installed

clean:
	rm -rf $(VENV) build dtcwsi-demo
