# The main targets are `make demo` and `make test`. PYTHON=... uses your own environment instead of .venv.
BOOTSTRAP ?= python3
ifdef PYTHON
RUN := $(PYTHON)
SETUP := $(PYTHON) tools/doctor.py --quiet
else
RUN := $(CURDIR)/.venv/bin/python
SETUP := $(BOOTSTRAP) tools/setup_env.py
endif
export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))
DEMO := work_dirs/demo
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

.PHONY: setup browser outside demo demo-all test test-long test-unit test-slow gpu lint format clean

setup:
	@$(SETUP)

demo: setup
	@$(RUN) -m fastervit_cli demo --out $(DEMO)

demo-all: setup
	@$(RUN) -m fastervit_cli demo --out $(DEMO) --heads cascade dino mask2former rtmdet-ins upernet fpn mask2former-semantic mask2former-panoptic
	@$(RUN) docs/generate/demo_page.py $(DEMO)

# one process more than cores, a thread each: some wait for others
test: setup
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(RUN) -m pytest -q -n $(WORKERS) --dist worksteal

# further cases, beside make test: CI runs them, too
test-long: setup
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(RUN) -m pytest -q -n $(WORKERS) --dist worksteal -m 'long and not slow and not gpu'

# of files that name no toolkit and start no process: under two minutes
test-unit: setup
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(RUN) -m pytest -q -n $(WORKERS) -m 'unit and not long and not slow and not gpu'

# also on bare Debians, as root where debootstrap is installed
test-slow: setup
	@$(RUN) -m pytest -q -m slow
	@if [ "$$(id -u)" = 0 ] && command -v debootstrap >/dev/null; then \
	  tools/bare_machine.sh trixie && tools/bare_machine.sh sid; \
	else echo 'test-slow: no bare machines: they need root and debootstrap'; fi

# on a machine with a GPU: writes docs/benchmarks/gpu_*.md; STEPS="tests peers" runs some
gpu: setup
	@$(RUN) tools/gpu.py $(STEPS)

# for the tests of pages; they are skipped without it
browser:
	@command -v chromium google-chrome >/dev/null || (apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium) >/dev/null 2>&1 \
	  || echo 'browser: Chromium cannot be installed here; tests that need it will be skipped'

# libraries of docs/outside.md and Ray, whose tests are skipped without them
outside: setup
	@$(RUN) -m pip install -q -e '.[outside,ray]'

lint: setup
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -c 'from importlinter.cli import lint_imports_command; lint_imports_command()' --no-cache
	@$(RUN) -m mypy --no-error-summary

format: setup
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

clean:
	rm -rf $(DEMO) .pytest_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
