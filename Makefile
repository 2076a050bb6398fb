# Three commands: `make demo`, `make test`, `make check`. Each makes .venv first, where it is missing or out of date.

PYTHON ?= python3
BIN := .venv/bin
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
endif
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
DEMO := runs/demo

.PHONY: demo test check clean
.DELETE_ON_ERROR:

demo: .venv/demo
	$(BIN)/reverie train flow-matching --data digits --time 4m --out $(DEMO)
	$(BIN)/reverie sample $(DEMO) -n 100 --seed 0 -o $(DEMO)/grid.png
	$(BIN)/reverie evaluate $(DEMO) --samples 2000 --likelihood-rows 128
	@echo
	@echo "Done. Look at $(DEMO)/report/report.html and $(DEMO)/grid.png, then try:"
	@echo "  $(BIN)/reverie sample $(DEMO) -n 64 --label 3 guidance=2 -o threes.png"
	@echo "  $(BIN)/reverie train r3gan --data YOUR-FOLDER --time 10m"
	@echo "  $(BIN)/reverie models"

test: .venv/test
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

check: .venv/check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv

.venv/made:
	$(PYTHON) -m venv .venv
	@touch $@

.venv/demo: .venv/made pyproject.toml constraints.txt
	$(PIP) --editable .
	@touch $@

.venv/test: .venv/made pyproject.toml constraints.txt
	$(PIP) --editable ".[test]"
	@touch $@

.venv/check: .venv/made pyproject.toml constraints.txt
	$(PIP) --editable ".[test,check]"
	@touch $@
