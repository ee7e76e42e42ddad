# Two commands do all set-up: `make demo` and `make test`. `make nightly` runs the long forms of the tests.
PYTHON ?= python3
VENV ?= .venv

.PHONY: demo test nightly bench generated pictures clean

demo: $(VENV)/installed-demo
	$(VENV)/bin/python demo/demo.py

test: $(VENV)/installed-dev
	sh .ci/debian-packages
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m pytest -q -n 3

# The same tests in their long forms: some for a minute each, others with many times as many generated examples.
nightly: $(VENV)/installed-dev
	sh .ci/debian-packages
	KV_NIGHTLY=1 $(VENV)/bin/python -m pytest -q -n 2 --hypothesis-profile=nightly --timeout=0

# The Python of the wire's messages; a test compares it with what is committed.
generated: $(VENV)/installed-dev
	$(VENV)/bin/python -m grpc_tools.protoc --proto_path=. --python_out=. --pyi_out=. provisioner/connect/protocol/*.proto

# The README's pictures of the dashboard, taken anew.
pictures: $(VENV)/installed-dev
	$(VENV)/bin/python tests/support/pictures.py

bench: $(VENV)/installed-dev
	$(VENV)/bin/python -m bench

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed-demo: $(VENV)/bin/python pyproject.toml bin/provisioner
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[deno]'
	touch $@

$(VENV)/installed-dev: $(VENV)/bin/python pyproject.toml bin/provisioner
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
