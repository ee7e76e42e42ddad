# Two commands do all set-up: `make demo` and `make test`. `make nightly` runs the long forms of the tests.
# `make lock` takes the newest releases of everything that they install; nothing else does.
PYTHON ?= python3
VENV ?= .venv

# Versions come from the lock file alone, those of what builds a package too.
LOCK = requirements/dev.txt
PIP = PIP_CONSTRAINT='$(CURDIR)/$(LOCK)' PIP_BUILD_CONSTRAINT='$(CURDIR)/$(LOCK)' \
  $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test test-fast coverage nightly bench generated pictures docs docs-outputs lock release clean

demo: $(VENV)/installed-demo
	$(VENV)/bin/python demo/demo.py

test: $(VENV)/installed-dev
	sh .ci/debian-packages
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	REFTABLE_GIT="$$(sh .ci/newer-git $(VENV)/newer-git)"; export REFTABLE_GIT; \
	  $(VENV)/bin/python -m pytest -q -n 3 --dist worksteal

# What needs no server, no Deno and no browser, and takes no time: for between two edits.
test-fast: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m pytest -q -n 2 --dist worksteal -m fast

# Which lines of the package run in tests, and in the processes that they start; TESTS='-m fast' takes a part of them.
# A test fails here if it counts what a start imports, for the measuring is imported too: the report comes all the same.
# On Python 3.11 a traced thread that another one is interrupted from never continues: that test is left out.
TESTS ?=
UNTRACED = tests/kv/test_kv_commit.py::test_an_interrupted_writer_does_not_stop_the_others
COVERAGE = COVERAGE_FILE='$(CURDIR)/.coverage/data' $(VENV)/bin/python -m coverage
coverage: $(VENV)/installed-dev
	rm -rf .coverage && mkdir .coverage
	-$(COVERAGE) run -m pytest -q -n 3 --dist worksteal --deselect $(UNTRACED) $(TESTS)
	$(COVERAGE) combine -q
	$(COVERAGE) report --sort=cover

# The same tests in their long forms: some for a minute each, others with many times as many generated examples.
nightly: $(VENV)/installed-dev
	sh .ci/debian-packages
	REFTABLE_GIT="$$(sh .ci/newer-git $(VENV)/newer-git)" && export REFTABLE_GIT && \
	  KV_NIGHTLY=1 $(VENV)/bin/python -m pytest -q -n 2 --dist worksteal --hypothesis-profile=nightly --timeout=0

# The Python of the wire's messages; a test compares it with what is committed.
generated: $(VENV)/installed-dev
	$(VENV)/bin/python -m grpc_tools.protoc --proto_path=. --python_out=. --pyi_out=. provisioner/connect/protocol/*.proto

# The README's pictures of the dashboard, taken again.
pictures: $(VENV)/installed-dev
	$(VENV)/bin/python tests/support/pictures.py

bench: $(VENV)/installed-dev
	$(VENV)/bin/python -m bench

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed-demo: $(VENV)/bin/python pyproject.toml $(LOCK) bin/provisioner
	$(PIP) --editable '.[deno]'
	touch $@

$(VENV)/installed-dev: $(VENV)/bin/python pyproject.toml $(LOCK) bin/provisioner
	$(PIP) --requirement $(LOCK)
	$(VENV)/bin/python -m pip install --quiet --no-build-isolation --no-deps --editable .
	touch $@

# The documentation as a site, in docs/_build/html; a dead link is an error.
docs: $(VENV)/installed-dev
	$(VENV)/bin/sphinx-build -q -W --keep-going -b html docs docs/_build/html

# Write into the pages what their commands print; a test compares the two.
docs-outputs: $(VENV)/installed-dev
	DOCS_OUTPUTS=1 $(VENV)/bin/python -m pytest -q tests/project/test_docs.py -k print_what_it_says

# Wheel and sdist, each tried in an empty environment, and the tag of the version.
release: $(VENV)/installed-dev
	sh .ci/release $(VENV)/bin/python $(PYTHON)

# Run it on purpose, then run the tests, then commit the two lock files together with what the new releases need.
lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check --upgrade uv
	.venv-lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --extra dev \
	  --custom-compile-command 'make lock' --output-file $(LOCK) pyproject.toml
	.venv-lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --prerelease allow \
	  --custom-compile-command 'make lock' --output-file requirements/denokv.txt requirements/denokv.in
	cd tests/support/npm && npm install --save-exact --package-lock-only --no-audit --no-fund \
	  $$(node -p "Object.keys(require('./package.json').dependencies).map((name) => name + '@latest').join(' ')")
	rm -rf .venv-lock

clean:
	rm -rf $(VENV) .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
