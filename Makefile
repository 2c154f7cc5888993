# The two commands of the README are `make demo` and `make test`. Each does its own set-up,
# inside this checkout: .venv/ for Python packages, .cache/ for what the tests fetch.

PYTHON ?= python3
# The Python to measure with: the distribution's, as a node has it, where it is new enough.
NODE_PYTHON ?= $(shell /usr/bin/python3 -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' \
    2>/dev/null && echo /usr/bin/python3 || echo $(PYTHON))
VENV := .venv
BIN := $(VENV)/bin
SAY := @echo "==>"
DEMO := examples/02-devices
# The one error of the demo. A plugin that does not start, or a policy that denies, gives another.
FAILS_ON_PURPOSE := container careless: .*did you mean major

.PHONY: demo test lint types unit oldest e2e fuzz bench binaries generate clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed ## What the suite does to an example pod; no root, no runtime
	$(SAY) "launching the suite as a runtime would, for $(DEMO)/pod.yaml and its policy"
	@mkdir -p .cache
	@$(BIN)/nri-inject try --policy $(DEMO)/policy.yaml --unsafe-files $(DEMO)/pod.yaml \
	    >.cache/demo.txt; status=$$?; cat .cache/demo.txt; \
	    if [ $$status -ne 1 ] || [ $$(grep -c '^  fails' .cache/demo.txt) -ne 1 ] || \
	    ! grep -q '^  fails .*$(FAILS_ON_PURPOSE)' .cache/demo.txt; then \
	    echo "Error: one container must fail, with: $(FAILS_ON_PURPOSE)" >&2; exit 1; fi
	$(SAY) "done: one container fails on purpose, to show what its author would read"

test: lint types unit oldest ## Everything; the end-to-end tests too where they can run

lint: $(VENV)/.developed ## ruff, and which module may import which
	$(SAY) "lint: ruff, import directions"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

types: $(VENV)/.developed ## mypy --strict
	$(SAY) "types: mypy --strict"
	@$(BIN)/mypy

unit: $(VENV)/.developed ## All tests; as root, with Debian's archive, on real containerds too
	$(SAY) "tests: unit, wire, examples; end-to-end on real containerds if this is root on Linux"
	@$(BIN)/python -m pytest

oldest: $(VENV)/oldest/.installed ## The tests of messages and wire on the oldest protobuf we claim
	$(SAY) "tests: wire and messages on the oldest protobuf that pyproject.toml claims"
	@$(VENV)/oldest/bin/python -m pytest --quiet tests/wire tests/test_plugin.py tests/test_protobuf.py \
	    tests/test_adjust.py

e2e: $(VENV)/.developed ## Only the end-to-end tests
	$(SAY) "end-to-end tests on containerd 1.7 and 2.x; needs root and Debian's archive"
	@$(BIN)/python -m pytest tests/e2e

fuzz: $(VENV)/.developed ## The wire against 50,000 hostile examples: five tests, 10,000 each
	$(SAY) "fuzzing the wire"
	@NRI_INJECT_FUZZ_EXAMPLES=10000 $(BIN)/python -m pytest tests/wire/test_fuzz.py

bench: $(VENV)/bench/.installed ## Beside Go's plugins and library; GO_DEVICE_INJECTOR, GO_HOOK_INJECTOR
	$(SAY) "benchmarks: interleaved rounds on NRI's own adaptation; what is not there says so"
	@mkdir -p .cache/bench
	@$(VENV)/bench/bin/python benchmarks/compare.py --json .cache/bench/compare.json
	@$(VENV)/bench/bin/python benchmarks/cdi_churn.py --json .cache/bench/churn.json
	@$(VENV)/bench/bin/python benchmarks/hostile_pattern.py

binaries: $(VENV)/.binaries ## Self-contained programs in dist/nri-inject, for nodes without Python
	$(SAY) "building dist/nri-inject: one folder, one executable, a link for each program"
	@$(BIN)/pyinstaller --noconfirm --log-level ERROR --distpath dist \
	    --workpath .cache/pyinstaller deploy/binaries/nri-inject.spec
	@dist/nri-inject/nri-inject --version

generate: ## Generate nri_inject/_pb from proto/ again
	$(PYTHON) proto/generate.py

clean: ## Remove all that these commands made
	rm -rf $(VENV) .cache dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	$(SAY) "making a virtual environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(SAY) "installing nri-inject and what it needs"
	@$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/oldest/.installed: pyproject.toml
	$(SAY) "installing the oldest protobuf that we claim, in an environment of its own"
	@$(PYTHON) -m venv $(VENV)/oldest
	@$(VENV)/oldest/bin/python -m pip install --quiet "protobuf==5.26.*" hypothesis pytest pyyaml click
	@$(VENV)/oldest/bin/python -m pip install --quiet --no-deps --editable .
	@touch $@

$(VENV)/bench/.installed: $(VENV)/.installed
	$(SAY) "installing nri-inject for $(NODE_PYTHON) as well, to measure with"
	@$(NODE_PYTHON) -m venv --without-pip $(VENV)/bench
	@$(BIN)/python -m pip --python $(VENV)/bench/bin/python install --quiet --editable .
	@touch $@

$(VENV)/.developed: $(VENV)/.installed
	$(SAY) "installing the tools that check it"
	@$(BIN)/python -m pip install --quiet --group dev --group e2e
	@touch $@

$(VENV)/.binaries: $(VENV)/.installed
	$(SAY) "installing what builds self-contained programs"
	@$(BIN)/python -m pip install --quiet --group binaries --editable ".[metrics]"
	@touch $@
