# Everything works from a fresh clone that has Python 3.11 or later and make; see `make help`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BENCH := $(VENV)/.bench
MUTANTS := $(VENV)/.mutants

.DEFAULT_GOAL := help
.PHONY: help demo test lint unit coverage fuzz soak soak-captions mutants bench schema docs site constraints clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "pixel-llm needs Python 3.11 or later; name one with: make PYTHON=python3.12 …"; exit 1; }
	@echo "Installing into $(VENV) (a minute or two, once) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(BENCH): $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	@touch $@

$(MUTANTS): $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[mutants]'
	@touch $@

demo: $(INSTALLED) ## Watch a policy carry captions through a failing server (under 30 s)
	@$(BIN)/pixel-llm demo

test: $(INSTALLED) ## Run every check: style, types, imports, tests, pages
	@$(MAKE) --no-print-directory -j 2 unit lint site

lint: $(INSTALLED) ## Check style, types, import directions and the shipped policies
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports | tail -n 2
	@$(BIN)/pixel-llm policy validate policies

unit: $(INSTALLED) ## Run the tests
	@$(BIN)/pytest -n 2 --dist worksteal

# Without the tests that take the time: being watched costs most of it.
coverage: $(INSTALLED) ## Run the engine's and the language's tests; each of their branches must be taken
	@$(BIN)/pytest -n 2 --dist worksteal --cov=pixel_llm.policy --cov=pixel_llm.resilience --cov-branch \
		--cov-report=term-missing:skip-covered --cov-fail-under=100 --deselect tests/policy/test_hostile_files.py \
		tests/policy tests/resilience tests/runtime tests/lm_studio

fuzz: $(INSTALLED) ## Take mutated policies through the loader, for a minute
	@$(BIN)/python -m fuzz --jobs 2 --seconds 60 --count 1000000000

soak: $(INSTALLED) ## Play a million schedules of faults to the engine (the better part of an hour); SEED=2 for others
	@$(BIN)/python -m soak --jobs 2 --count 1000000 --seed $(or $(SEED),1)

soak-captions: $(INSTALLED) ## Caption 10,000 pictures through a server that fails at random (some minutes); SEED=2 for others
	@$(BIN)/python -m soak.captions --seed $(or $(SEED),1)

mutants: $(MUTANTS) ## Change 600 places of the engine and the policy language, one by one; 95 % must be noticed
	@$(BIN)/python -m mutants --sample 600 --seed $(or $(SEED),1) --jobs 2

bench: $(BENCH) ## Measure against the peers; writes docs/reference/benchmarks.md
	@$(BIN)/python -m benchmarks

schema: $(INSTALLED) ## Write schemas/policy.schema.json from the sections in pixel_llm/policy/sections/
	@$(BIN)/pixel-llm policy schema > schemas/.new && mv schemas/.new schemas/policy.schema.json

docs: $(INSTALLED) ## Write docs/reference/ from the code, the pictures, and what commands print into the pages
	@$(BIN)/python -m tools.reference
	@$(BIN)/python -m tools.outages
	@$(BIN)/python -m tools.parts
	@$(BIN)/python -m tools.samples

site: $(INSTALLED) ## Build the site of the pages into build/site; no link may lead nowhere
	@$(BIN)/python -m sphinx -n -W -q -b html docs build/site

constraints: $(INSTALLED) ## Write constraints.txt from what is installed
	@{ echo '# Versions that the test suite passes with. `make` installs with these; regenerate with `make constraints`.'; \
	   $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//'; } > constraints.txt

clean: ## Remove what was installed and built
	rm -rf $(VENV) build dist .mutants .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
