# Every target sets up what it needs; the only thing to have beforehand is Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
REFERENCE := build/reference
RUN := runs/dates_additive-s1
SENTENCE := Freitag, der siebenundzwanzigste März neunzehnhundertvierundachtzig, und dreihundertfünfundvierzig

.PHONY: setup run test test-all test-reference gpu check format docs notebooks figures results claims lock clean

setup: $(READY)

.venv/requirements: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "attnlab needs Python 3.11 or newer; say which: make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

$(READY): .venv/requirements pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: $(READY)
	$(BIN)/attnlab train experiments/translation/dates_additive.yaml
	$(BIN)/attnlab evaluate $(RUN)
	$(BIN)/attnlab show $(RUN) "$(SENTENCE)"

$(RUN)/results.json:
	$(MAKE) run

test: $(READY)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

test-all: $(READY)
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not optimized"
	XLA_FLAGS= $(BIN)/python -m pytest -q -n 2 --dist worksteal -m optimized

# An environment of its own, as torch and the libraries to compare with take several gigabytes. ferret-xai asks for
# NumPy below 2 and works with 2. The tests whose program or library is not there say so (docs/extending.md).
$(REFERENCE)/ready: pyproject.toml
	$(PYTHON) -m venv --clear $(REFERENCE)
	$(REFERENCE)/bin/python -m pip install --quiet --disable-pip-version-check -e ".[test,reference]"
	$(REFERENCE)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps ferret-xai==0.4.2
	@touch $@

test-reference: $(REFERENCE)/ready
	$(REFERENCE)/bin/python -m pytest -q -m reference -rs --some-must-run

# Needs no setup of ours: where no package can be downloaded it takes $(PYTHON) as it is (docs/performance.md).
gpu:
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m attnlab bench gpu --into docs/performance.md $(GPU)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python -m pytest -q tests/test_floors.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Each notebook with its outputs, beside its source; the first shows the run of `make run`.
notebooks: $(READY) $(RUN)/results.json
	$(BIN)/python notebooks/run.py

docs: $(READY)
	$(BIN)/python docs/reference.py
	$(BIN)/python -m sphinx --fail-on-warning --keep-going -q -b html -c docs . build/site
	@echo "open build/site/index.html"

figures: $(READY)
	MPLBACKEND=Agg $(BIN)/python docs/figures.py

results: $(READY)
	$(BIN)/attnlab results docs/results/*-s* --into docs/results.md
	$(BIN)/attnlab results docs/results/*-s* --into docs/trust.md

# Writes the pages of the claims from the archived runs; `attnlab claims --save docs/results/claims` archives them.
claims: $(READY)
	@mkdir -p docs/results/claims
	$(BIN)/attnlab claims --from docs/results/claims --out docs/claims

# Pins anew what pyproject.toml allows today, with hashes (in an environment of its own, so that .venv stays as it is).
lock:
	$(PYTHON) -m venv --clear build/lock
	build/lock/bin/python -m pip install --quiet pip-tools
	env -u PIP_FIND_LINKS PIP_CONFIG_FILE=/dev/null build/lock/bin/pip-compile --quiet --generate-hashes --allow-unsafe \
	  --extra test --extra docs --build-deps-for editable --strip-extras --no-emit-index-url --no-emit-trusted-host \
	  --no-emit-find-links --no-header --no-annotate --upgrade -o requirements.txt pyproject.toml

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .jax_cache .ruff_cache .hypothesis
