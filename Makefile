# Python 3.11 is all that has to be there: every target sets up the rest by itself.
PYTHON ?= $(or $(shell command -v python3.11),$(shell command -v python3),python3.11)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
EXTRAS := live,radio,train,cluster,openvino,dev

# One thread each: on a busy machine threads that wait for one another cost more than they give.
THREADS := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive

.DEFAULT_GOAL := help
.PHONY: help install demo live-demo test lint types fuzz audit bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

install: $(INSTALLED) ## make .venv with everything

$(INSTALLED): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null && "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Semcast needs Python 3.11 or newer, and '$(PYTHON)' is not that: install python3.11 (with its venv module), or name one with 'make PYTHON=/path/to/python3.11 install'" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$(EXTRAS)]'
	$(BIN)/pip check
	@touch $@

demo: install ## send the built-in clip through a clean channel; the results are in out/demo
	$(BIN)/semcast demo --out out/demo

live-demo: install ## both live ends on two hosts over a link with losses, with a picture of the page; as root on Linux
	$(THREADS) $(BIN)/semcast bench live --out out/live --only '25 ms each way' --only '5 % loss'

test: install ## run all tests; make test ARGS="-k wire" runs some
	$(THREADS) $(BIN)/pytest $(ARGS)

lint: install ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install ## check types of common, sender, channel and receiver
	$(BIN)/mypy

fuzz: install ## look for inputs that break a reader; make fuzz ARGS="--executions 10000000 --jobs 2"
	$(THREADS) $(BIN)/python -m tests.fuzz $(ARGS)

# pip-audit has an environment of its own: what it needs must not change what is tested. It asks PyPI about each pin.
AUDIT := build/audit
ADVISORIES := https://pypi.org/pypi/pip/json
PIP_AUDIT := pip-audit==2.10.1

audit: ## look the pinned packages up in the database of known vulnerabilities; needs the network
	@"$(PYTHON)" -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=10).close()' "$(ADVISORIES)" 2>/dev/null \
	    || { echo "not audited: no answer from $(ADVISORIES); run this where there is a network, or see the audit workflow" >&2; exit 1; }
	"$(PYTHON)" -m venv "$(AUDIT)"
	"$(AUDIT)/bin/pip" install --quiet --disable-pip-version-check "$(PIP_AUDIT)"
	grep '==' constraints.txt > "$(AUDIT)/pins.txt"
	"$(AUDIT)/bin/pip-audit" --strict --disable-pip --no-deps --requirement "$(AUDIT)/pins.txt"

bench: install ## measure the time of every stage on this machine
	$(BIN)/semcast bench latency

clean: ## delete results and caches; .venv stays
	rm -rf out build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
