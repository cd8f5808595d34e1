# Two commands on a fresh machine: `make demo` and `make test`. Each sets up .venv when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint clean

demo: $(VENV)/.demo
	$(BIN)/mednext segment Resources/SampleData/Colin27_T1.nii.gz demo/Colin27_tissues.nii.gz --picture demo/Colin27_tissues.png --overwrite
	@echo "Labels: demo/Colin27_tissues.nii.gz   Picture: demo/Colin27_tissues.png"

# The module's tests have a process of their own, as Slicer has: it must never hold torch.
test: $(VENV)/.test lint
	$(BIN)/python -m pytest Testing/engine
	$(BIN)/python -m pytest Testing/module

lint: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

$(VENV)/.demo: Training/pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12) and 'Python 3.10 to 3.12 is needed; choose it with: make PYTHON=python3.12')"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable "Training[cpu]"
	touch $@

$(VENV)/.test: $(VENV)/.demo Testing/requirements.txt Testing/module/requirements.txt Testing/requirements-no-deps.txt
	$(BIN)/python -m pip install --quiet --editable "Training[cpu,evaluation]" --requirement Testing/requirements.txt --requirement Testing/module/requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --requirement Testing/requirements-no-deps.txt
	touch $@

clean:
	rm -rf $(VENV) demo
