# make run    set up what is missing, start lambdad, and show its demo function at work
# make test   set up what is missing, and run every test
# make check  style, types, layers
# make bench  the benchmarks behind SPECIFICATION.md, with their figures
# make stages where the time goes in a cold start and in a warm invocation
# make soak   kill the daemon 300 times while it takes in events and runs them, and look for what is lost

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run test check bench stages soak setup test-tools test-runtimes clean

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Interpreters that the tests want besides those of the machine, installed as a user would: `lambdad runtimes add`.
TEST_RUNTIMES := $(CURDIR)/.lambdad/runtimes
WANTED_RUNTIMES := python3.8 python3.9 python3.10 python3.11 python3.12 python3.13 \
                   nodejs14.x nodejs16.x nodejs18.x nodejs20.x nodejs22.x nodejs24.x
# Servers of others that tests run, as jars, and Python packages that tests put into functions.
TEST_JARS := $(CURDIR)/.lambdad/jars
TEST_PACKAGES := $(CURDIR)/.lambdad/packages
TEST_EXTENSIONS := $(CURDIR)/.lambdad/extensions
# Functions with wheels in their packages or layers are of this Python.
WHEELS_PYTHON := 3.11
# One more than the processors that CI has: many tests wait for something, and some measure how long others wait.
WORKERS ?= 3

help:
	@sed -n '1,6s/^# //p' Makefile

# The virtual environment. Debian keeps ensurepip in a package of its own.
$(READY): pyproject.toml
	@python=$$(for each in python3.13 python3.12 python3.11 python3; do \
	    $$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $$each && break; done); \
	if [ -z "$$python" ]; then echo "lambdad needs Python 3.11 or newer"; exit 1; fi; \
	if ! $$python -c 'import ensurepip' 2>/dev/null; then \
	    $(MAKE) --no-print-directory apt PACKAGES=python3-venv WHY="to make a virtual environment"; fi; \
	echo "setting up $(VENV) with $$($$python --version)"; \
	$$python -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $@

setup: $(READY)

# Installs packages of Debian where we may, and says so; elsewhere it says what is missing.
.PHONY: apt
apt:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing $(PACKAGES) $(WHY)"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(PACKAGES) >/dev/null; \
	else echo "missing: $(PACKAGES) ($(WHY)); install it with your system's package manager"; fi

# What functions are isolated with. Without it lambdad runs what is not Python as plain processes, and says so.
.PHONY: sandbox-tools
sandbox-tools: setup
	@command -v bwrap >/dev/null || \
	    $(MAKE) --no-print-directory apt PACKAGES=bubblewrap WHY="to isolate functions"

run: sandbox-tools
	@$(BIN)/lambdad start & daemon=$$!; \
	trap 'kill $$daemon 2>/dev/null' INT TERM; \
	until (exec 3<>/dev/tcp/$${LAMBDAD_HOST:-127.0.0.1}/$${LAMBDAD_PORT:-4566}) 2>/dev/null; do \
	    kill -0 $$daemon 2>/dev/null || exit 1; sleep 0.1; done; \
	echo; $(BIN)/lambdad demo && echo && echo "lambdad runs until you press Ctrl-C."; \
	wait $$daemon

# Programs that tests drive: a load generator, a compiler, curl, npm, and version 2 of the AWS CLI.
test-tools: sandbox-tools
	@missing=; \
	for pair in wrk:wrk gcc:gcc curl:curl zip:zip npm:npm setpriv:util-linux; do \
	    command -v $${pair%%:*} >/dev/null || missing="$$missing $${pair##*:}"; done; \
	[ -x /usr/bin/aws ] || missing="$$missing awscli"; \
	if [ -n "$$missing" ]; then \
	    $(MAKE) --no-print-directory apt PACKAGES="$$missing" WHY="for the tests"; fi

test-runtimes: test-tools
	@for name in $(WANTED_RUNTIMES); do \
	    [ -e $(TEST_RUNTIMES)/.$$name ] && continue; \
	    echo "adding $$name for the tests"; mkdir -p $(TEST_RUNTIMES); \
	    if LAMBDAD_RUNTIMES_DIR=$(TEST_RUNTIMES) LAMBDAD_DATA_DIR=$(CURDIR)/.lambdad/data \
	        $(BIN)/lambdad runtimes add $$name >$(TEST_RUNTIMES)/add.log 2>&1; \
	    then touch $(TEST_RUNTIMES)/.$$name; else tail -n 3 $(TEST_RUNTIMES)/add.log; fi; done

# ElasticMQ and DynamoDB Local: tests run against them what is a neighbour elsewhere. Tests that lack them are skipped.
$(TEST_JARS)/.ready: tests/servers/pom.xml
	@rm -rf $(TEST_JARS); mkdir -p $(TEST_JARS); \
	missing=; for pair in mvn:maven javac:default-jdk-headless; do \
	    command -v $${pair%%:*} >/dev/null || missing="$$missing $${pair##*:}"; done; \
	[ -z "$$missing" ] || \
	    $(MAKE) --no-print-directory apt PACKAGES="$$missing" WHY="to fetch and run servers for the tests"; \
	echo "fetching ElasticMQ and DynamoDB Local for the tests"; \
	if timeout 600 mvn --batch-mode --file tests/servers/pom.xml dependency:copy-dependencies \
	    -DincludeScope=runtime -DoutputDirectory=$(TEST_JARS) >$(TEST_JARS)/fetch.log 2>&1; \
	then touch $@; \
	else grep -m 1 ERROR $(TEST_JARS)/fetch.log; echo "they cannot be had; the tests that need them are skipped"; fi

# As the AWS documentation has a package with dependencies built: wheels of the interpreter that will run it.
PYTHON_PACKAGES := $(TEST_PACKAGES)/python$(WHEELS_PYTHON)/PIL \
                   $(TEST_PACKAGES)/powertools/python/aws_lambda_powertools $(TEST_PACKAGES)/fastapi/mangum
$(TEST_PACKAGES)/python$(WHEELS_PYTHON)/PIL: WHEELS := pillow
$(TEST_PACKAGES)/powertools/python/aws_lambda_powertools: WHEELS := aws-lambda-powertools
$(TEST_PACKAGES)/fastapi/mangum: WHEELS := fastapi mangum
$(PYTHON_PACKAGES): $(READY)
	@echo "fetching $(WHEELS) for Python $(WHEELS_PYTHON)"; mkdir -p $(@D); \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --target $(@D) --upgrade --only-binary=:all: \
	    --platform manylinux2014_$$(uname -m) --implementation cp --python-version $(WHEELS_PYTHON) $(WHEELS) \
	    && touch $@ || echo "it cannot be had; the tests that need it are skipped"

NODE_PACKAGES := $(TEST_PACKAGES)/hono/node_modules/hono
$(NODE_PACKAGES): | test-tools
	@echo "fetching $(@F) for Node.js"; mkdir -p $(TEST_PACKAGES)/$(@F); \
	npm install --silent --no-audit --no-fund --prefix $(TEST_PACKAGES)/$(@F) $(@F) \
	    || echo "it cannot be had; the tests that need it are skipped"

.PHONY: test-servers
test-servers: test-tools $(TEST_JARS)/.ready $(PYTHON_PACKAGES) $(NODE_PACKAGES)

# Extensions for the tests, small and without what debuggers want: the AWS Lambda Web Adapter, and one made with AWS's
# crate. Only a recent cargo can build them; tests that lack one are skipped.
$(TEST_EXTENSIONS)/bin/lambda-adapter: CRATE := lambda_web_adapter@0.9.1 --locked
$(TEST_EXTENSIONS)/bin/watcher: CRATE := --path .
$(TEST_EXTENSIONS)/bin/watcher: tests/extensions/Cargo.toml tests/extensions/src/main.rs
$(TEST_EXTENSIONS)/bin/%:
	@if ! command -v cargo >/dev/null; then echo "cargo is missing: tests of the extension $* are skipped"; exit 0; fi; \
	echo "building the extension $* for the tests"; mkdir -p $(TEST_EXTENSIONS); \
	work=$$(mktemp -d); cp -r tests/extensions $$work; cd $$work/extensions; \
	CARGO_PROFILE_DEV_STRIP=true CARGO_PROFILE_DEV_DEBUG=0 timeout 600 cargo install --quiet --debug --force \
	    --root $(TEST_EXTENSIONS) --target-dir $$work/target $(CRATE) >$(TEST_EXTENSIONS)/$*.log 2>&1 \
	    || { tail -n 3 $(TEST_EXTENSIONS)/$*.log; echo "it cannot be had; the tests that need it are skipped"; }; \
	rm -rf $$work

.PHONY: test-extensions
test-extensions: $(TEST_EXTENSIONS)/bin/lambda-adapter $(TEST_EXTENSIONS)/bin/watcher

test: test-runtimes test-servers test-extensions
	LAMBDAD_TEST_RUNTIMES_DIR=$(TEST_RUNTIMES) $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --ignore tests/perf tests
	LAMBDAD_TEST_RUNTIMES_DIR=$(TEST_RUNTIMES) $(BIN)/pytest tests/perf

bench: test-runtimes
	LAMBDAD_TEST_RUNTIMES_DIR=$(TEST_RUNTIMES) $(BIN)/pytest -s --long tests/perf

stages: sandbox-tools
	@PYTHONPATH=tests $(BIN)/python -m perf.stages

soak: test-runtimes
	LAMBDAD_TEST_RUNTIMES_DIR=$(TEST_RUNTIMES) $(BIN)/pytest --cycles 300 \
	    tests/faults/test_event_crashes.py::test_no_event_is_lost_however_often_the_daemon_is_killed

check: setup
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) .lambdad dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
