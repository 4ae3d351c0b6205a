# Needs python >= 3.11, git and make; everything else goes into .venv. Another Python: make PYTHON=python3.13 test

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
READY := .venv/.ready
BENCH := .venv-bench/bin
BENCH_READY := .venv-bench/.ready
SNIPPETS := $(wildcard tests/docs)

.PHONY: dev test check bench attacks supported web-suite lock clean

dev: $(READY) ## PostgreSQL, the Clerk emulator and the example app, on this machine alone
	@PATH="$(CURDIR)/$(BIN):$$PATH" exec tenantry dev --app documents.main:app --app-dir examples/documents/api \
		--migrate "alembic upgrade head" $(ARGS)

test: $(READY) ## all tests; make test ARGS="-k webhook --pg=18"
	$(BIN)/pytest -n auto $(ARGS)

check: $(READY) ## style, types, import boundaries, the snippets in the docs
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(if $(SNIPPETS),$(BIN)/pytest -q $(SNIPPETS))

attacks: $(READY) ## write the table of attacks in docs/isolation.md anew
	@PYTHONPATH=tests $(BIN)/python -m attacks.table

supported: $(READY) ## write SUPPORTED.md anew, from Clerk's specifications beside this checkout
	@PYTHONPATH=tests $(BIN)/python -m emulator.specs.supported

web-suite: $(READY) ## write the Next.js example's suite anew, as `tenantry init nextjs` does
	@$(BIN)/tenantry init nextjs --dir examples/documents/web --by id --roles examples/documents/api/tenantry.toml --yes

bench: $(BENCH_READY) ## what Tenantry costs, as ratios to floors; make bench ARGS="webhook --quick"
	@PYTHONPATH="$${PYTHONPATH:-$(CURDIR)/src}" $(BENCH)/python -m benchmarks $(ARGS)

lock: ## pin what pyproject.toml asks for, with hashes; make lock ARGS=--upgrade takes newer releases
	uv pip compile --quiet $(ARGS) --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header \
		--extra dev --extra sqlalchemy --extra fastapi --extra psycopg --group test --group check \
		pyproject.toml -o requirements/dev.txt
	uv pip compile --quiet $(ARGS) --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header \
		--extra dev --extra sqlalchemy --extra fastapi --extra psycopg --group bench -c requirements/dev.txt \
		pyproject.toml -o requirements/bench.txt

clean: ## the virtual environment, caches and local data
	rm -rf .venv .venv-bench .tenantry .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist

$(READY): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.13 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing the pinned dependencies into .venv ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(BENCH_READY): requirements/bench.txt
	@test -x $(BENCH)/python || $(PYTHON) -m venv .venv-bench
	@echo "Installing what the benchmarks compare with into .venv-bench ..."
	@$(BENCH)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@touch $@
