# Two commands do everything: `make run` and `make test`. Both install what they need, from lock files with hashes.

PYTHON ?= python3
VENV := .venv
SCRIPTS := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
BIN := $(VENV)/$(SCRIPTS)
INSTALL := -m pip --disable-pip-version-check --no-input install --quiet --require-hashes
SOURCES := pyproject.toml hatch_build.py $(shell find gateway plugins -name '*.py' -o -name '*.[ch]')
CLIENTS := .venvs/openai .venvs/anthropic .venvs/memos .venvs/schemathesis
MATRIX := .venvs/openai .venvs/anthropic .venvs/frameworks .venvs/llama-index .venvs/mcp .venvs/node .venvs/inspector .venvs/agents
NODE := tests/clients/node
AGENTS := tests/clients/agents
CONSOLE := .venvs/console/$(SCRIPTS)/python
INSPECTOR := tests/clients/inspector

.PHONY: help run fit environments test test-unit test-workers coverage test-clients test-cluster test-console test-deploy test-ray test-long
.PHONY: soak bench bench-scale bench-cluster docs
.PHONY: screenshots lock clean install
.DEFAULT_GOAL := run

help:  ## show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: install  ## run the gateway with the shipped config.yaml
	@$(BIN)/gateway serve --config config.yaml

install: $(VENV)/.gateway

# `make -j2 environments` makes at once what `make docs`, `make test` and `make test-clients` make one after the other
environments: install $(VENV)/.tests .venvs/docs/.installed $(CLIENTS:%=%/.installed) $(MATRIX:%=%/.installed) \
	.venvs/console/.installed .venvs/cluster/.installed .venvs/deploy/.installed

test: install $(VENV)/.tests $(CLIENTS:%=%/.installed)  ## all checks and all tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy gateway plugins tests
	$(BIN)/python -m pytest $(PARALLEL)

# a test that asks for much time of the processor, or waits, leaves the other processes room: two for each of two cores
PARALLEL := -n $(or $(WORKERS),4) --dist loadscope

test-unit: install $(VENV)/.tests  ## the checks and the unit tests: two minutes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy gateway plugins tests
	$(BIN)/python -m pytest tests/unit tests/docs

coverage: install $(VENV)/.tests  ## coverage of each module by its own test file: ten minutes
	$(BIN)/python -m tests.docs.own_coverage

test-clients: install $(VENV)/.tests $(MATRIX:%=%/.installed)  ## real clients of many makers; brings its own Node
	$(BIN)/python -m pytest tests/matrix

test-cluster: install $(VENV)/.tests .venvs/cluster/.installed  ## clusters on real PostgreSQL and S3 servers: some minutes
	.venvs/cluster/$(SCRIPTS)/python -m pytest -c tests/cluster/pytest.ini -n 3 -k "not test_faults or kill_9" tests/cluster
	$(ON_A_CLUSTER) -n 3 $(SHARED_BY_GATEWAYS)

# suites for one gateway, with three that share a memory in its place
ON_A_CLUSTER := .venvs/cluster/$(SCRIPTS)/python -m pytest -c tests/cluster/pytest.ini --rootdir=. --cluster 3
SHARED_BY_GATEWAYS := tests/fuzz/test_isolation.py tests/fuzz/test_stateful.py tests/flow/test_hangups.py tests/flow/test_fidelity.py

test-deploy: install $(VENV)/.tests .venvs/deploy/.installed  ## the files in deploy/ with real nginx and Helm: half a minute
	.venvs/deploy/$(SCRIPTS)/python -m pytest -c tests/deploy/pytest.ini tests/deploy

test-ray: install $(VENV)/.tests .venvs/ray/.installed  ## the bulk jobs in deploy/ray on real Ray: some minutes
	.venvs/ray/$(SCRIPTS)/python -m pytest -c tests/ray/pytest.ini tests/ray

test-console: install $(VENV)/.tests .venvs/console/.installed  ## the console in a real browser: two minutes
	@$(CONSOLE) -m tests.console.browser
	$(CONSOLE) -m pytest -c tests/console/pytest.ini -n 2 --dist loadfile tests/console

screenshots: install $(VENV)/.tests .venvs/console/.installed  ## the pictures of the console in docs/images
	@$(CONSOLE) -m tests.console.browser
	$(CONSOLE) -m tests.console.screenshots

test-long: install $(VENV)/.tests $(CLIENTS:%=%/.installed) .venvs/cluster/.installed .venvs/ray/.installed  ## crashes, faults and fuzzing in full: about an hour
	$(BIN)/python -m pytest --long --timeout 3600 tests/crash tests/faults tests/fuzz
	$(BIN)/python -m pytest --long --timeout 3600 --workers 3 $(SHARED) tests/fuzz/test_stateful.py
	$(BIN)/python -m tests.bench.soak 5 3
	.venvs/cluster/$(SCRIPTS)/python -m pytest -c tests/cluster/pytest.ini --long --timeout 3600 $(FAULTS:%=tests/cluster/gateways/%.py)
	$(ON_A_CLUSTER) --long --timeout 3600 $(SHARED_BY_GATEWAYS)
	.venvs/ray/$(SCRIPTS)/python -m pytest -c tests/ray/pytest.ini tests/ray

FAULTS := test_faults test_partition test_upgrade

# what also runs with three workers
SHARED := tests/crash tests/flow/test_hangups.py tests/fuzz/test_isolation.py

test-workers: install $(VENV)/.tests  ## the suites of crashes, isolation and hang-ups with three workers: three minutes
	$(BIN)/python -m pytest -n 2 --workers 3 tests/crash/test_workers.py tests/flow/test_hangups.py \
		tests/fuzz/test_isolation.py tests/fuzz/test_stateful.py

soak: install $(VENV)/.tests  ## half an hour of mixed load with faults; SERVERS=3: with so many workers
	$(BIN)/python -m tests.bench.soak $(MINUTES) $(SERVERS)

MINUTES ?= 30
SERVERS ?= 1

bench: install $(VENV)/.tests  ## speed as ratios to a bare pass-through, with goals; BENCH=--quick, BENCH="--against v1"
	$(BIN)/python -m tests.bench $(BENCH)

bench-scale: install $(VENV)/.tests  ## recall from a thousand to a million memories: a table and a plot (scale.png)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.bench.scale scale.png

bench-cluster: install $(VENV)/.tests .venvs/cluster/.installed  ## speed of three gateways on one memory, with goals; BENCH=--quick, BENCH=--check
	.venvs/cluster/$(SCRIPTS)/python -m tests.bench.cluster $(BENCH)

fit: install $(VENV)/.tests .venvs/fit/.installed  ## fit the recall policy to the corpus: writes gateway/text/policy.json
	.venvs/fit/$(SCRIPTS)/python -m tests.fit worth
	.venvs/fit/$(SCRIPTS)/python -m tests.fit recall

.venvs/fit/.installed: tests/fit/fit.lock | $(VENV)/.tests
	@test -x .venvs/fit/$(SCRIPTS)/python || $(PYTHON) -m venv .venvs/fit
	@.venvs/fit/$(SCRIPTS)/python $(INSTALL) -r tests/fit/fit.lock
	@$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' > \
		$$(.venvs/fit/$(SCRIPTS)/python -c 'import site; print(site.getsitepackages()[0])')/gateway.pth
	@touch $@

.venvs/cluster/.installed: tests/cluster/cluster.lock | $(VENV)/.tests
	@echo "installing PostgreSQL and SeaweedFS for tests ..."
	@test -x .venvs/cluster/$(SCRIPTS)/python || $(PYTHON) -m venv .venvs/cluster
	@.venvs/cluster/$(SCRIPTS)/python $(INSTALL) -r $<
	@$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' > \
		$$(.venvs/cluster/$(SCRIPTS)/python -c 'import site; print(site.getsitepackages()[0])')/gateway.pth
	@touch $@

.venvs/deploy/.installed: tests/deploy/deploy.lock | $(VENV)/.tests
	@echo "installing nginx and Helm for tests ..."
	@test -x .venvs/deploy/$(SCRIPTS)/python || $(PYTHON) -m venv .venvs/deploy
	@.venvs/deploy/$(SCRIPTS)/python $(INSTALL) -r $<
	@$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' > \
		$$(.venvs/deploy/$(SCRIPTS)/python -c 'import site; print(site.getsitepackages()[0])')/gateway.pth
	@touch $@

.venvs/ray/.installed: tests/ray/ray.lock | $(VENV)/.tests
	@echo "installing Ray for tests (400 MB) ..."
	@test -x .venvs/ray/$(SCRIPTS)/python || $(PYTHON) -m venv .venvs/ray
	@.venvs/ray/$(SCRIPTS)/python $(INSTALL) -r $<
	@$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' > \
		$$(.venvs/ray/$(SCRIPTS)/python -c 'import site; print(site.getsitepackages()[0])')/gateway.pth
	@touch $@

docs: .venvs/docs/.installed  ## build the documentation site: docs/_build/html/index.html
	.venvs/docs/$(SCRIPTS)/python -m sphinx -b html -W --keep-going --quiet -d docs/_build/doctrees docs docs/_build/html

lock:  ## write the lock files again (needs uv)
	uv pip compile $(LOCK) pyproject.toml --extra documents --extra eval --extra prices --extra speed --group build -o requirements.lock
	uv pip compile $(LOCK) pyproject.toml --extra documents --extra eval --extra prices --extra speed --extra otel --group build --group dev -c requirements.lock -o tests/requirements.lock
	uv pip compile $(LOCK) -c tests/requirements.lock tests/fit/fit.in -o tests/fit/fit.lock
	uv pip compile $(LOCK) -c tests/requirements.lock tests/console/console.in -o tests/console/console.lock
	uv pip compile $(LOCK) -c tests/requirements.lock tests/cluster/cluster.in -o tests/cluster/cluster.lock
	uv pip compile $(LOCK) -c tests/requirements.lock tests/deploy/deploy.in -o tests/deploy/deploy.lock
	uv pip compile $(LOCK) -c tests/requirements.lock -c tests/cluster/cluster.lock tests/ray/ray.in -o tests/ray/ray.lock
	uv pip compile $(LOCK) pyproject.toml --extra cluster --extra documents --extra otel --extra prices --extra speed --group build -c requirements.lock -o deploy/image.lock
	uv pip compile $(LOCK) docs/requirements.in -o docs/requirements.lock
	uv pip compile $(LOCK) tests/clients/openai.in -o tests/clients/openai.lock
	uv pip compile $(LOCK) tests/clients/anthropic.in -o tests/clients/anthropic.lock
	uv pip compile $(LOCK) tests/clients/frameworks.in -o tests/clients/frameworks.lock
	uv pip compile $(LOCK) tests/clients/llama-index.in -o tests/clients/llama-index.lock
	uv pip compile $(LOCK) tests/clients/mcp.in -o tests/clients/mcp.lock
	uv pip compile $(LOCK) tests/clients/node.in -o tests/clients/node.lock
	uv pip compile $(LOCK) tests/clients/schemathesis.in -o tests/clients/schemathesis.lock
	uv pip compile $(LOCK) tests/clients/memos.in -o tests/clients/memos.lock
	uv pip compile $(LOCK) --no-deps tests/clients/memos-client.in -o tests/clients/memos-client.lock
	uv pip compile $(LOCK) --no-deps tests/clients/memos-old-client.in -o tests/clients/memos-old-client.lock

LOCK := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

clean:  ## remove what make installed; the memory in ./data stays
	rm -rf $(VENV) .venvs docs/_build $(NODE)/node_modules $(AGENTS)/node_modules $(INSPECTOR)/node_modules

$(VENV)/.lock: requirements.lock
	@echo "installing (once, about a minute) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make run PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python $(INSTALL) -r requirements.lock
	@touch $@

$(VENV)/.gateway: $(VENV)/.lock $(SOURCES)
	@$(BIN)/python -m pip --disable-pip-version-check --no-input install --quiet --no-deps --no-build-isolation \
		--force-reinstall .
	@touch $@

gateway/native/_kernels.stamp: gateway/native/build.py $(wildcard gateway/native/*.[ch]) | $(VENV)/.gateway
	@$(BIN)/python -m gateway.native.build  # beside its source, for tests
	@touch $@

$(VENV)/.tests: tests/requirements.lock $(VENV)/.lock gateway/native/_kernels.stamp | $(VENV)/.gateway  # never two at one environment
	@echo "installing what the tests need ..."
	@$(BIN)/python $(INSTALL) -r tests/requirements.lock
	@touch $@

.venvs/docs/.installed: docs/requirements.lock
	@echo "installing what builds the documentation ..."
	@test -x .venvs/docs/$(SCRIPTS)/python || $(PYTHON) -m venv .venvs/docs
	@.venvs/docs/$(SCRIPTS)/python $(INSTALL) -r $<
	@touch $@

PLAIN := openai anthropic schemathesis frameworks llama-index mcp
$(PLAIN:%=.venvs/%/.installed): .venvs/%/.installed: tests/clients/%.lock
	@echo "installing what tests talk with: $* ..."
	@test -x .venvs/$*/$(SCRIPTS)/python || $(PYTHON) -m venv .venvs/$*
	@.venvs/$*/$(SCRIPTS)/python $(INSTALL) -r $<
	@touch $@

.venvs/node/.installed: tests/clients/node.lock $(NODE)/package-lock.json
	@echo "installing what tests talk with: node ..."
	@test -x .venvs/node/$(SCRIPTS)/python || $(PYTHON) -m venv .venvs/node
	@.venvs/node/$(SCRIPTS)/python $(INSTALL) -r $<
	@cd $(NODE) && PATH=$(CURDIR)/.venvs/node/bin:$$PATH npm ci --ignore-scripts --no-audit --no-fund --loglevel error
	@touch $@

.venvs/inspector/.installed: $(INSPECTOR)/package-lock.json | .venvs/node/.installed
	@echo "installing what tests talk with: the inspector of MCP (110 MB) ..."
	@mkdir -p .venvs/inspector
	@cd $(INSPECTOR) && PATH=$(CURDIR)/.venvs/node/bin:$$PATH npm ci --ignore-scripts --no-audit --no-fund --loglevel error
	@touch $@

.venvs/agents/.installed: $(AGENTS)/package-lock.json | .venvs/node/.installed
	@echo "installing what tests talk with: coding agents (1.3 GB) ..."
	@mkdir -p .venvs/agents
	@if [ "$$(uname -sm)" = "Linux x86_64" ]; then cd $(AGENTS) && PATH=$(CURDIR)/.venvs/node/bin:$$PATH \
		npm ci --ignore-scripts --no-audit --no-fund --loglevel error; fi
	@touch $@

.venvs/console/.installed: tests/console/console.lock tests/console/package-lock.json | .venvs/node/.installed
	@echo "installing what drives a browser ..."
	@test -x $(CONSOLE) || $(PYTHON) -m venv .venvs/console
	@$(CONSOLE) $(INSTALL) -r tests/console/console.lock
	@cp tests/console/package.json tests/console/package-lock.json .venvs/console/
	@cd .venvs/console && PATH=$(CURDIR)/.venvs/node/bin:$$PATH npm ci --ignore-scripts --no-audit --no-fund --loglevel error
	@touch $@

.venvs/memos/.installed: tests/clients/memos.lock tests/clients/memos-client.lock tests/clients/memos-old-client.lock
	@echo "installing the real clients: MemoryOS (about a minute) ..."
	@test -x .venvs/memos/$(SCRIPTS)/python || $(PYTHON) -m venv .venvs/memos
	@.venvs/memos/$(SCRIPTS)/python $(INSTALL) -r tests/clients/memos.lock
	@.venvs/memos/$(SCRIPTS)/python $(INSTALL) --no-deps -r tests/clients/memos-client.lock
	@rm -rf .venvs/memos/old  # the older generation beside it, on the same dependencies
	@.venvs/memos/$(SCRIPTS)/python $(INSTALL) --no-deps --target .venvs/memos/old -r tests/clients/memos-old-client.lock
	@touch $@
