# Two commands: `make quickstart` and `make test`. Both install what is missing into .venv.
PYTHON ?= python3
VENV := .venv
BUILT_FROM := pyproject.toml constraints.txt CMakeLists.txt $(wildcard tok/native/* curation/native/* packing/native/* model/native/*)
PIP := $(VENV)/bin/pip install --disable-pip-version-check -c constraints.txt

.PHONY: quickstart test test-quick lint

quickstart: $(VENV)/.installed
	$(VENV)/bin/gristmill run quickstart

test: $(VENV)/.installed-test lint
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(VENV)/bin/python -m pytest -n 2

test-quick: $(VENV)/.installed-test lint
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(VENV)/bin/python -m pytest -n 2 -m "not slow"

lint: $(VENV)/.installed-test
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

# torch comes first and by its exact version, so that no other package can pull in another build.
$(VENV)/.installed: $(BUILT_FROM) | $(VENV)/bin/pip
	$(PIP) torch==2.13.0
	$(PIP) -e '.[sample]'
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) -e '.[sample,test]'
	touch $@
