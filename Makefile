# make demo PROMPT="..."   a picture from a sentence
# make test                lint, types, tests, notebooks, the explorers in a browser
# make lab                 the notebooks in JupyterLab
# make explorer            the lecture page: guidance and thresholding on stage
# make site                the notebooks as web pages, in build/site: sliders at work, no kernel, no network
# make notebooks           runs the notebooks and keeps their outputs
# make refresh             after new weights: makes again all that was made from them
# make claims              the paper's claims, tried small: what has no result yet is tried (hours), all is printed
# make soak                faults done on purpose (kills, full disks, hostile files, ...), and what came of them: hours
# Each makes .venv and installs what it needs, once; again only when pyproject.toml or constraints.txt change.

PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PROMPT ?= a shiny red cone next to a small blue house on the grass
OUT ?= out.png
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test lint types browser lab explorer site notebooks refresh claims soak
export PROMPT OUT

help:
	@sed -n '1,10s/^# //p' Makefile

demo: $(VENV)/.core
	@$(BIN)/imagen-lite sample "$$PROMPT" -o "$$OUT"

test: lint types browser
	@echo "==> tests and notebooks"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --nbval --nbval-current-env --nbval-cell-timeout=300

lint: $(VENV)/.dev
	@echo "==> ruff"
	@$(BIN)/ruff check --quiet --output-format concise . && $(BIN)/ruff format --quiet --check .

types: $(VENV)/.dev
	@echo "==> pyright"
	@$(BIN)/pyright

# A browser for the tests that need one; without it they are skipped, and say so.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
		echo "==> installing chromium for the browser tests"; \
		{ apt-get update -qq && apt-get install -y -qq chromium; } >/dev/null 2>&1 || echo "    there is none to be had"; }

# From here, not from notebooks/: JupyterLab serves nothing outside the folder that it was started on, as ../data is.
lab: $(VENV)/.core
	@$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb

explorer: $(VENV)/.explorer
	@$(BIN)/voila explorer/lecture.ipynb --MappingKernelManager.cull_idle_timeout=120 --MappingKernelManager.cull_interval=30

site: $(VENV)/.site
	@$(BIN)/python -m experiments.site

notebooks: $(VENV)/.core
	@$(BIN)/python -m experiments.notebooks

refresh: $(VENV)/.core
	@$(BIN)/python -m experiments.refresh

claims: $(VENV)/.core
	@$(BIN)/python -m experiments.claims run

soak: $(VENV)/.dev | browser
	@$(BIN)/python -m experiments.soak

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "imagen_lite needs Python 3.11 or newer: install it, or say make PYTHON=/path/to/python3"; exit 1; }
	@echo "==> making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)

# The stamps are written last, so that an interrupted install is taken up again.
$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python
	@echo "==> installing imagen_lite and torch into $(VENV): a minute or two and 2 GB on a fast line, more with CUDA"
	@$(PIP) -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "==> installing imagen_lite, torch and the tools of the tests into $(VENV): a minute or two and 2 GB on a fast line"
	@$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.core

$(VENV)/.explorer: pyproject.toml constraints.txt | $(BIN)/python
	@echo "==> installing imagen_lite, torch and voila into $(VENV)"
	@$(PIP) -e '.[explorer]'
	@touch $@ $(VENV)/.core

$(VENV)/.site: pyproject.toml constraints.txt | $(BIN)/python
	@echo "==> installing imagen_lite, torch and sphinx into $(VENV)"
	@$(PIP) -e '.[site]'
	@touch $@ $(VENV)/.core
