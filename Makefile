# The two commands of the README are `make demo` and `make test`. Each command does its own set-up,
# inside this checkout: .venv/ for Python packages, .cache/ for what the tests fetch.

# Plugins start from compiled modules, as on a node.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
# The Python to measure with: the distribution's, as a node has it, where it is new enough.
NODE_PYTHON ?= $(shell /usr/bin/python3 -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' \
    2>/dev/null && echo /usr/bin/python3 || echo $(PYTHON))
VENV := .venv
BIN := $(VENV)/bin
SAY := @echo "==>"
DEMO := examples/02-devices
# The demo knows nothing of this node: an old runtime would fail another container, too.
# Its one error. A plugin that does not start, or a policy that denies, gives another.
FAILS_ON_PURPOSE := container careless: .*did you mean .major

# Every package comes from a file in requirements/, at one version, with its hash. Nothing is built
# from source but nri-inject itself, by the locked hatchling.
LOCKED := install --quiet --require-hashes --no-deps --only-binary :all: --requirement
OURSELVES := install --quiet --no-index --no-deps --no-build-isolation --editable .

# `make quick` tries a tenth of the usual examples of each property.
QUICK := NRI_INJECT_EXAMPLES=0.1 $(BIN)/python
# The modules that decide, without files, clocks and sockets: `make coverage` holds them at 85 %.
PURE := nri_inject/wire/*,nri_inject/text/*,nri_inject/cdi/*,nri_inject/hooks/*,$\
    nri_inject/policy/*,nri_inject/injectors/*,nri_inject/capabilities.py,$\
    nri_inject/host/devices/selectors.py,nri_inject/host/devices/classes.py,$\
    nri_inject/plugins/differences.py,nri_inject/plugins/excerpt.py,$\
    nri_inject/plugins/resource_assigner/*

VERSION := $(shell sed -n 's/^VERSION = "\(.*\)"/\1/p' nri_inject/version.py)
# The time that packages and archives carry, so that the same commit gives the same bytes.
dist binaries image release: export SOURCE_DATE_EPOCH := $(or $(shell git log -1 --format=%ct 2>/dev/null),1580601600)

.PHONY: help demo quick coverage test begin lint types oldest unit e2e e2e-kubernetes soak bench \
    docs look binaries image manifests dist man release release-images sums notes draft publish workflows generate lock clean
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

help: ## This list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(VENV)/.installed ## What the suite does to an example pod; no root, no runtime
	$(SAY) "launching the suite as a runtime would, for $(DEMO)/pod.yaml and its policy"
	@mkdir -p .cache/no-node
	@$(BIN)/nri-inject try --root .cache/no-node --policy $(DEMO)/policy.yaml --unsafe-files \
	    $(DEMO)/pod.yaml >.cache/demo.txt; status=$$?; cat .cache/demo.txt; \
	    if [ $$status -ne 1 ] || [ $$(grep -c '^  fails' .cache/demo.txt) -ne 1 ] || \
	    ! grep -q '^  fails .*$(FAILS_ON_PURPOSE)' .cache/demo.txt; then \
	    echo "Error: one container must fail, with: $(FAILS_ON_PURPOSE)" >&2; exit 1; fi
	$(SAY) "done: one container fails on purpose, to show what its author would read"

quick: $(VENV)/.developed ## 8,000 tests in half a minute: no process, no container, no root
	@$(QUICK) -m pytest --quick --quiet

coverage: $(VENV)/.developed ## The lines that make quick runs, by package
	@mkdir -p .cache/coverage
	@$(QUICK) -m coverage run -m pytest --quick --quiet
	@$(BIN)/coverage json --quiet -o .cache/coverage/lines.json
	@$(BIN)/python tests/support/rooms.py .cache/coverage/lines.json
	@$(BIN)/coverage report --include='$(PURE)' --fail-under=85 --skip-covered

test: begin lint types oldest unit e2e ## Everything: half an hour

begin:
	$(SAY) "$$(date +%H:%M): lint and types take 1 minute, the oldest packages 1, all tests 5, and the"
	$(SAY) "end-to-end tests 25; those need root and Debian's archive"

lint: $(VENV)/.developed ## ruff, and which module may import which
	$(SAY) "lint: ruff, import directions"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

types: $(VENV)/.developed ## mypy --strict
	$(SAY) "types: mypy --strict"
	@$(BIN)/mypy

oldest: $(VENV)/oldest/.installed ## The quick tests on the oldest packages that we claim
	$(SAY) "tests: on the oldest packages that pyproject.toml allows"
	@NRI_INJECT_EXAMPLES=0.1 $(VENV)/oldest/bin/python -m pytest --quick --quiet
	@$(VENV)/oldest/bin/python -m pytest --quiet tests/test_protobuf.py tests/service/health/test_supervisor.py

unit: $(VENV)/.developed $(VENV)/.documented ## All tests but the end-to-end tests
	$(SAY) "tests: all but those on real containerds"
	@$(BIN)/python -m pytest --ignore=tests/e2e

e2e: $(VENV)/.developed ## The end-to-end tests: real containers on containerd 1.7 and 2.x
	$(SAY) "end-to-end tests on containerd 1.7 and 2.x"
	@$(BIN)/python -m pytest tests/e2e

# `make test` leaves it out. .cache/kubernetes keeps the build.
e2e-kubernetes: $(VENV)/.developed .cache/bin/helm ## The chart on a cluster of one node; needs root and Go
	$(SAY) "$$(date +%H:%M): building Kubernetes and containerd takes 30 minutes the first time"
	@PYTHONPATH=tests $(BIN)/python -m kubernetes.programs
	$(SAY) "$$(date +%H:%M): the tests on the cluster take 3 minutes"
	@$(BIN)/python -m pytest tests/kubernetes --durations=10

soak: $(VENV)/.developed ## An hour of restarts, kills, pods and examples; CONTRIBUTING.md has the last
	$(SAY) "$$(date +%H:%M): 50,000 pods, 30 rounds of kills and restarts, 20 times the examples"
	@NRI_INJECT_PODS=50000 NRI_E2E_ROUNDS=30 NRI_INJECT_EXAMPLES=20 \
	    $(BIN)/python -m pytest -m "soak or hypothesis" --durations=10
	$(SAY) "$$(date +%H:%M): done; write the date and the commit into CONTRIBUTING.md"

bench: $(VENV)/bench/.installed ## Beside Go's plugins and library; GO_DEVICE_INJECTOR, GO_HOOK_INJECTOR
	$(SAY) "benchmarks: interleaved rounds on NRI's own adaptation; what is not there says so"
	@mkdir -p .cache/bench
	@$(VENV)/bench/bin/python benchmarks/compare.py --json .cache/bench/compare.json
	@$(BIN)/python docs/pictures/plots.py .cache/bench/compare.json
	@$(VENV)/bench/bin/python benchmarks/cdi_churn.py --json .cache/bench/churn.json
	@$(VENV)/bench/bin/python benchmarks/hostile_pattern.py
	@$(VENV)/bench/bin/python benchmarks/hostile_texts.py

SITE := dist/docs
SITE_WORK := .cache/site

docs: $(VENV)/.documented ## The pages of docs/ and the references as a site in dist/docs
	$(SAY) "building the site in $(SITE)"
	@rm -rf $(SITE) $(SITE_WORK)
	@$(BIN)/python docs/site/sources.py $(SITE_WORK)/source
	@PYTHONPATH=docs/site $(BIN)/python -m sphinx --quiet --fail-on-warning --conf-dir docs/site \
	    --doctree-dir $(SITE_WORK)/doctrees $(SITE_WORK)/source $(SITE)

# `make test` leaves it out. The pictures of the pages are in .cache/looks.
look: docs $(VENV)/.developed .cache/axe/installed ## Each page of the site in Chromium; needs npm
	$(SAY) "looking at the site in Chromium, 1280 and 390 pixels wide"
	@$(BIN)/python -m pytest tests/browser

.cache/axe/installed: tests/browser/package-lock.json
	@mkdir -p .cache/axe
	@cp tests/browser/package.json tests/browser/package-lock.json .cache/axe
	@npm ci --silent --ignore-scripts --prefix .cache/axe
	@touch $@

binaries: $(VENV)/.binaries ## Self-contained programs in dist/nri-inject, for nodes without Python
	$(SAY) "building dist/nri-inject: one folder, one executable, a link for each program"
	@PYTHONHASHSEED=0 $(BIN)/pyinstaller --noconfirm --log-level ERROR --distpath dist \
	    --workpath .cache/pyinstaller deploy/binaries/nri-inject.spec
	@dist/nri-inject/nri-inject --version

dist: $(VENV)/.installed ## Source distribution and wheel in dist/: the same bytes in each build
	$(SAY) "building the source distribution, and the wheel from it"
	@rm -rf dist/*.whl dist/nri_inject-*.tar.gz .cache/sdist
	@mkdir -p .cache/sdist
	@$(BIN)/hatchling build --target sdist --directory dist
	@tar -xzf dist/nri_inject-$(VERSION).tar.gz -C .cache/sdist --strip-components=1
	@cd .cache/sdist && $(abspath $(BIN))/hatchling build --target wheel --directory $(CURDIR)/dist

# The name that the manifests have. ARCH is amd64 or arm64, and DEBIAN is the root of a mirror.
IMAGE := registry.example.com/nri-inject:$(VERSION)
ARCH := $(or $(patsubst aarch64,arm64,$(filter aarch64,$(shell uname -m))),amd64)
DEBIAN :=

image: dist ## The container image in dist/, with its SBOM; no root, no engine, no registry
	$(SAY) "building the image $(IMAGE) for $(ARCH)"
	@mkdir -p .cache/image
	@PYTHONPATH=deploy $(BIN)/python -m image.build --architecture $(ARCH) --name $(IMAGE) \
	    --wheel dist/nri_inject-$(VERSION)-py3-none-any.whl --cache .cache/image --mirror "$(DEBIAN)" \
	    --target dist/nri-inject-$(VERSION)-image-$(ARCH).tar \
	    --sbom dist/nri-inject-$(VERSION)-image-$(ARCH).cdx.json

manifests: $(VENV)/.installed .cache/bin/helm ## deploy/kubernetes/base from deploy/chart; needs Go once
	@PYTHONPATH=deploy $(BIN)/python -m manifests.render .cache/bin/helm

# Four minutes of CPU time: after a change of the version, remove the file.
.cache/bin/helm:
	@CGO_ENABLED=0 GOBIN=$(CURDIR)/.cache/bin go install helm.sh/helm/v4/cmd/helm@v4.3.2

man: $(VENV)/.installed ## Pages of the manual in dist/man, for packages; install writes the same
	@$(BIN)/python -m nri_inject.cli.manual dist/man

# The programs' archive lacks pip's RECORD files: their lines have no fixed order.
RELEASED := dist/release
PROGRAMS := nri-inject-$(VERSION)-linux-$(shell uname -m)

release: dist binaries ## The files of a release and their checksums in dist/release (docs/release.md)
	@grep -q '^## $(VERSION)\( \|$$\)' CHANGELOG.md || { echo "CHANGELOG.md lacks $(VERSION)" >&2; exit 1; }
	@rm -rf $(RELEASED)
	@mkdir -p $(RELEASED)
	@cp dist/nri_inject-$(VERSION)* $(RELEASED)
	@tar --sort=name --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
	    --mtime=@$(SOURCE_DATE_EPOCH) \
	    --exclude=RECORD --transform 's,^nri-inject,$(PROGRAMS),S' -cf - -C dist nri-inject | gzip -9n \
	    >$(RELEASED)/$(PROGRAMS).tar.gz
	@$(MAKE) --no-print-directory -s sums

release-images: ## The images of a release, for each architecture, in dist/release; needs a Debian mirror
	@mkdir -p $(RELEASED)
	@for architecture in amd64 arm64; do \
	    $(MAKE) --no-print-directory image ARCH=$$architecture || exit 1; done
	@cp dist/nri-inject-$(VERSION)-image-* $(RELEASED)
	@$(MAKE) --no-print-directory -s sums

sums:
	@cd $(RELEASED) && rm -f SHA256SUMS && sha256sum -- * >SHA256SUMS && cat SHA256SUMS

notes: ## What the changelog says of this version
	@sed '1,/^## $(VERSION)\( \|$$\)/d; /^## /,$$d' CHANGELOG.md

draft: ## Draft the release on GitHub, with its files; the workflow does it
	@mkdir -p .cache
	@$(MAKE) --no-print-directory -s notes >.cache/notes.md
	@gh release create v$(VERSION) --draft --verify-tag --title "nri-inject $(VERSION)" \
	    --notes-file .cache/notes.md $(RELEASED)/*

publish: $(VENV)/tools/.installed ## Upload wheel and source distribution; the workflow does it
	@$(VENV)/tools/bin/uv publish --trusted-publishing always $(RELEASED)/nri_inject-*

workflows: $(VENV)/tools/.installed .cache/bin/actionlint ## Check .github: actionlint, zizmor; needs Go
	$(SAY) "workflows: actionlint, zizmor"
	@.cache/bin/actionlint
	@$(VENV)/tools/bin/zizmor --quiet --offline .github

.cache/bin/actionlint: Makefile
	@GOBIN=$(CURDIR)/.cache/bin go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

generate: ## Generate nri_inject/_pb from proto/ again
	$(PYTHON) proto/generate.py

# `make lock RENEW=` keeps the versions that pyproject.toml still allows.
RENEW := --upgrade
COMPILE = UV_CACHE_DIR=.cache/uv $(VENV)/tools/bin/uv --quiet --no-config pip compile $(RENEW) \
    --generate-hashes --no-annotate --only-binary :all: --custom-compile-command "make lock" \
    --python-version 3.11
EVERY_PYTHON := --universal --constraint requirements/dev.txt

lock: $(VENV)/tools/.installed ## Renew all locks: the newest packages, with hashes
	$(SAY) "locking the packages that run, check, build and generate nri-inject"
	@$(COMPILE) --universal pyproject.toml --group dev -o requirements/dev.txt
	@$(COMPILE) $(EVERY_PYTHON) pyproject.toml --group build -o requirements/run.txt
	@$(COMPILE) $(EVERY_PYTHON) pyproject.toml --group binaries \
	    -o requirements/binaries.txt
	@$(subst 3.11,3.13,$(COMPILE)) --constraint requirements/dev.txt pyproject.toml \
	    -o requirements/image.txt
	@PYTHONPATH=tests:deploy $(BIN)/python -m image.lock
	@$(COMPILE) --resolution lowest-direct pyproject.toml --group build --group test \
	    -o requirements/oldest.txt
	@$(COMPILE) $(EVERY_PYTHON) --group docs -o requirements/docs.txt
	@$(COMPILE) --group generate -o requirements/generate.txt
	@$(COMPILE) --universal --group tools -o requirements/tools.txt
	@git --no-pager diff --stat -- requirements deploy/image

clean: ## Remove all that these commands made
	rm -rf $(VENV) .cache dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	$(SAY) "making a virtual environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python requirements/run.txt pyproject.toml
	$(SAY) "installing nri-inject and the packages that it needs"
	@$(BIN)/python -m pip $(LOCKED) requirements/run.txt
	@$(BIN)/python -m pip $(OURSELVES)
	@touch $@

$(VENV)/.developed: $(VENV)/.installed requirements/dev.txt
	$(SAY) "installing the packages that check it"
	@$(BIN)/python -m pip $(LOCKED) requirements/dev.txt
	@touch $@

$(VENV)/.binaries: $(VENV)/.installed requirements/binaries.txt
	$(SAY) "installing the package that builds self-contained programs"
	@$(BIN)/python -m pip $(LOCKED) requirements/binaries.txt
	@touch $@

$(VENV)/.documented: $(VENV)/.installed requirements/docs.txt
	$(SAY) "installing the packages that build the site"
	@$(BIN)/python -m pip $(LOCKED) requirements/docs.txt
	@touch $@

$(VENV)/oldest/.installed: requirements/oldest.txt pyproject.toml
	$(SAY) "installing the oldest packages that pyproject.toml allows, in an environment of their own"
	@$(PYTHON) -m venv $(VENV)/oldest
	@$(VENV)/oldest/bin/python -m pip $(LOCKED) requirements/oldest.txt
	@$(VENV)/oldest/bin/python -m pip $(OURSELVES)
	@touch $@

$(VENV)/bench/.installed: $(VENV)/.installed
	$(SAY) "installing nri-inject for $(NODE_PYTHON) as well, to measure with"
	@$(NODE_PYTHON) -m venv --without-pip $(VENV)/bench # Debian's may have no pip to put there
	@$(BIN)/python -m pip --python $(VENV)/bench/bin/python $(LOCKED) requirements/run.txt
	@$(BIN)/python -m pip --python $(VENV)/bench/bin/python $(OURSELVES)
	@touch $@

$(VENV)/tools/.installed: requirements/tools.txt
	$(SAY) "installing the tools of maintainers"
	@$(PYTHON) -m venv $(VENV)/tools
	@$(VENV)/tools/bin/python -m pip $(LOCKED) requirements/tools.txt
	@touch $@
