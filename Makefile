# `make demo` and `make test` work on a fresh machine with Python 3.11+ and make: they install what they need into .venv.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --no-deps
CONFIG ?= configs/demo.yaml
# Two processes, each with a Ray of its own; a file's tests share fixtures, so they stay together, and in order.
TWO := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-slow test-long lint types docs clean

demo: .venv/.installed
	$(BIN)/redi-ray run $(CONFIG)

test: .venv/.installed-dev
	$(BIN)/python -m pytest $(TWO) -m "not slow and not long"

test-slow: .venv/.installed-dev
	$(BIN)/python -m pytest $(TWO) -m "slow and not long"

test-long: .venv/.installed-dev
	$(BIN)/python -m pytest -m long

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.installed-dev
	$(BIN)/mypy

.venv/.installed: requirements/torch.lock requirements/cpu.lock pyproject.toml
	@echo "installing into .venv (a few minutes the first time)"
	$(PYTHON) -c 'import sys; sys.exit("redi_ray needs Python 3.11 or newer, this is " + sys.version) if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv .venv
	$(INSTALL) -r requirements/torch.lock
	$(INSTALL) -r requirements/cpu.lock
	$(INSTALL) --no-build-isolation --editable .
	touch $@

.venv/.installed-docs: .venv/.installed requirements/docs.lock
	$(INSTALL) -r requirements/docs.lock
	touch $@

.venv/.installed-dev: .venv/.installed requirements/dev.lock
	$(INSTALL) -r requirements/dev.lock
	touch $@

# A link that leads nowhere ends it; with --quiet it would not. The variable keeps the generator from telling of its own future.
docs: .venv/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "site/index.html; its search needs a server: $(BIN)/python -m http.server --directory site"

clean:
	rm -rf .venv runs site
