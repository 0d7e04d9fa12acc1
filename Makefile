# Everything that one needs to work on rdsiam. `make` alone lists it.
.DEFAULT_GOAL := help
SHELL := bash
PYTHON_BIN := .venv/bin/python
# Python that finds localcloud's databases by their names, also if /etc/hosts can't be written.
NAMED = $$($(PYTHON_BIN) -m localcloud.core.hosts) $(PYTHON_BIN)
export PYTHONPATH := layers/rdsiam
export SAM_CLI_TELEMETRY := 0

# How many processes the tests are spread over; each has a localcloud of its own. `make test WORKERS=1` for one. They wait
# a third of the time, so there are two more than cores.
CORES := $(shell nproc)
WORKERS ?= $(shell expr $(CORES) + 2)
# More of pytest's options, such as PYTEST="--durations=50".
PYTEST ?=

.PHONY: help setup demo test test-all stress check lint bench sam-test local login operator lock deploy
.PHONY: clean-cache permissions findings errors openapi picture

help: ## list what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: ## make the virtual environments and install what the system lacks
	@scripts/setup

demo: ## watch a new database become passwordless, and a caller log in with a token
	@scripts/setup --mariadb-optional
	@$(NAMED) -m demo

local: ## start localcloud and leave it running: AWS's APIs, the functions, the HTTP API
	@scripts/setup --mariadb-optional
	@$(PYTHON_BIN) -m localcloud

login: ## beside `make local > cloud.json`: make a database, and print what a shell evaluates to log in to it
	@$(PYTHON_BIN) -m demo.first_login $(or $(CLOUD),cloud.json)

operator: ## beside `make local > cloud.json`: print what a shell evaluates to operate rdsiam there
	@$(PYTHON_BIN) -m demo.operator_shell $(or $(CLOUD),cloud.json)

test: setup ## run the unit and integration tests, every behaviour once; WORKERS=n for n processes
	@$(NAMED) -m pytest -n $(WORKERS) $(PYTEST)

test-all: ## run them with every combination, every point at which something can be killed, all examples
	@scripts/setup --with-java
	@$(NAMED) -m pytest -n $(WORKERS) -m 'not stress' $(PYTEST)

stress: setup ## run the heavy proofs, and the tests that make up their examples with twenty times as many; takes hours
	@$(NAMED) -m pytest -n $(WORKERS) -m 'hypothesis or stress' --examples stress $(PYTEST)

check: setup ## check style and types and run the unit tests, in 90 s; the template's checks are in `make lint`
	@.venv/bin/ruff check --quiet . && .venv/bin/ruff format --quiet --check .
	@.venv/bin/mypy & types=$$!; $(PYTHON_BIN) -m pytest -n $(CORES) $(PYTEST) tests/unit; tests=$$?; wait $$types && exit $$tests

lint: ## check style, types and the template, as it is written and as it is expanded
	@scripts/setup --with-lint
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/mypy --python-version 3.11 --package rdsiam
	@.venv/sam/bin/sam validate --lint
	@scripts/scan template.yaml
	@scripts/scan-containers

deploy: ## ask two questions, build, and deploy to your AWS account; ENV=prod for another part of samconfig.toml
	@scripts/setup --for-deploy
	@scripts/deploy $(ENV)

bench: ## measure the promises, side by side with what they are compared to
	@scripts/setup --with-bench
	@PYTHONPATH=layers/rdsiam:. $(NAMED) -m bench

sam-test: setup ## build with the AWS SAM CLI, run every function with every event in containers
	@tests/sam/images
	@$(NAMED) -m pytest tests/sam

picture: setup ## take docs/audit-report.png anew
	@scripts/picture

permissions: setup ## write docs/permissions.md anew
	@$(PYTHON_BIN) scripts/permissions

findings: setup ## write docs/findings.md anew
	@$(PYTHON_BIN) scripts/findings

errors: setup ## write docs/errors.md anew
	@$(PYTHON_BIN) scripts/errors

openapi: setup ## write docs/openapi.json anew
	@$(PYTHON_BIN) scripts/openapi

clean-cache: ## remove the database servers that were downloaded
	@$(PYTHON_BIN) -m localcloud.core.cache --clean

lock: setup ## resolve the requirement files again
	@for file in layers/rdsiam/requirements requirements-dev requirements-sam requirements-lint requirements-library; do \
	  environment=.venv; [ $$file != requirements-library ] || environment=.venv/python3.11; \
	  $$environment/bin/python -m pip install --quiet pip-tools && \
	  CUSTOM_COMPILE_COMMAND="make lock" $$environment/bin/pip-compile --quiet --strip-extras --no-emit-index-url \
	    --no-emit-trusted-host --no-emit-find-links --no-emit-options $$file.in -o $$file.txt || exit 1; \
	done
