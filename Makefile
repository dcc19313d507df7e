# make demo               encode and reopen a drawn slide; SLIDE=path takes that slide instead
# make test               lint, types and tests, on this Python and on the newest one found
#
# PYTHON=...  interpreter, 3.11 or newer    TORCH=...  requirement for PyTorch in `make test`
# PIP=...     options for pip install, such as an index with CPU builds of PyTorch

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test lint types test-newest clean

PYTHON ?=
NEWEST ?=
TORCH ?= torch==2.13.0
PIP ?=
SLIDE ?=
OUT ?= demo

comma := ,
VENV := .venv
VENV_NEWEST := .venv-newest
INSTALL := -m pip install -qq --disable-pip-version-check $(PIP)

# $(call interpreter,FLOOR,CANDIDATES): the first that runs and is new enough, also behind pyenv.
define interpreter
for name in $(2); do \
  for pyenv in "$${PYENV_VERSION:-}" $$(pyenv versions --bare 2>/dev/null | sort -rV || true); do \
    found=$$(PYENV_VERSION="$$pyenv" "$$name" -c 'import sys, venv, ensurepip; print(sys.executable if sys.version_info >= ($(1)) else "")' 2>/dev/null || true); \
    if [ -n "$$found" ]; then echo "$$found"; exit 0; fi; \
  done; \
done
endef

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -5

$(VENV)/made:
	@set -euo pipefail; python=$$($(call interpreter,3$(comma)11,$(or $(PYTHON),python3 python python3.11 python3.12 python3.13))); \
	if [ -z "$$python" ]; then \
	  echo "wsicodec needs Python 3.11 or newer, with venv; none was found. Name one: make PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	echo "virtual environment $(VENV) with $$python"; \
	rm -rf $(VENV); "$$python" -m venv $(VENV)
	@touch $@

$(VENV)/user: pyproject.toml $(VENV)/made
	$(VENV)/bin/python $(INSTALL) -e '.[cpu]'
	@touch $@

$(VENV)/developer: pyproject.toml $(VENV)/made
	$(VENV)/bin/python $(INSTALL) -e '.[cpu,train,dev]' '$(TORCH)'
	@touch $@ $(VENV)/user

demo: $(VENV)/user
	$(VENV)/bin/python -m wsicodec demo $(if $(SLIDE),'$(SLIDE)') --out '$(OUT)'

lint: $(VENV)/developer
	$(VENV)/bin/ruff check --no-cache .
	$(VENV)/bin/ruff format --no-cache --check .

types: $(VENV)/developer
	$(VENV)/bin/mypy

# The wheel itself, on the newest Python found, with the newest zarr and without PyTorch. Tests are
# copied away from the sources, so that what is imported is what was installed.
test-newest: pyproject.toml
	@set -euo pipefail; python=$$($(call interpreter,3$(comma)12,$(or $(NEWEST),python3.14 python3.13 python3.12 python3))); \
	if [ -z "$$python" ]; then echo "test-newest: skipped, no Python 3.12 or newer found"; exit 0; fi; \
	echo "test-newest: the wheel, without PyTorch, on $$python"; \
	stamp=$(VENV_NEWEST)/installed; \
	if [ ! -e $$stamp ] || [ pyproject.toml -nt $$stamp ]; then \
	  rm -rf $(VENV_NEWEST); "$$python" -m venv $(VENV_NEWEST); \
	  $(VENV_NEWEST)/bin/python $(INSTALL) '.[cpu,test]'; touch $$stamp; \
	else \
	  $(VENV_NEWEST)/bin/python $(INSTALL) --no-deps --force-reinstall .; \
	fi; \
	rm -rf build/wheel-tests; mkdir -p build/wheel-tests; \
	cp -R tests pyproject.toml build/wheel-tests/; \
	cd build/wheel-tests; rm -f tests/test_architecture.py tests/test_readme.py; \
	../../$(VENV_NEWEST)/bin/pytest -q -m 'not torch and not gpu and not network'

test: lint types test-newest
	$(VENV)/bin/python -m pytest -m 'not network'

clean:
	rm -rf $(VENV) $(VENV_NEWEST) build dist
