# Two commands matter: make demo, make test.  Needs Python 3.11 or newer and nothing else.
# The first that runs and is new enough: a name on the path may be a shim of a version that is not switched on.
PYTHON ?= $(firstword $(foreach one,python3 python3.13 python3.12 python3.11,$(if $(shell $(one) -c \
  'import sys; print("yes" if sys.version_info >= (3, 11) else "")' 2>/dev/null),$(one))))
BIN := .venv/bin

.PHONY: demo test check soak docs clean

demo: .venv/installed
	$(BIN)/python jobs/demo.py

test: .venv/tested-with
	$(BIN)/python -m pytest -n 2 --dist loadgroup --cov=meddx --cov-report=term-missing:skip-covered --cov-fail-under=90

check: .venv/tested-with
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -m "not ray and not slow"

# Faults that are too long for every commit; the result is written into tests/soak/RESULTS.md.  About half an hour.
soak: .venv/tested-with
	MEDDX_SOAK=1 $(BIN)/python -m pytest -q tests/soak

docs: .venv/installed
	$(BIN)/python -m meddx.stages.docs

clean:
	rm -rf .venv runs .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage* *.egg-info

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "meddx needs Python 3.11 or newer on the path, or: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install -q -e '.[imaging]'
	touch $@

.venv/tested-with: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install -q -e '.[test]'
	touch $@ .venv/installed
