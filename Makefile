# Everything a newcomer needs:  make demo  and  make test.  Both set up .venv themselves.

# The newest Python that runs (a shim may stand for a version that is not installed) and has venv.
PYTHON ?= $(shell for version in 3.13 3.12 3.11; do python$$version -c 'import ensurepip, sqlite3, venv' \
	2>/dev/null && echo python$$version && break; done)
VENV := .venv
BIN := $(VENV)/bin
EXTRAS ?=
comma := ,
STAMP := $(VENV)/.installed-$(subst $(comma),-,$(EXTRAS))

.PHONY: help venv install demo test test-quick test-all lint docs bench chaos test-oldest reference-values study paper-study clean

help:
	@echo "make demo         set up, then compare unlearning methods on embedded photographs (three minutes)"
	@echo "make test         set up, then run the whole test suite; test-quick runs two minutes of it"
	@echo "make test-all     the same, and also what one method stands for on every method (once a week)"
	@echo "make lint         set up, then check style, types and docstrings with pinned tools"
	@echo "make docs         set up, then build the documentation with its executed gallery in docs/_build/html"
	@echo "make install      set up .venv only; EXTRAS=test,lint adds those tools; PYTHON=... names the Python"
	@echo "make test-oldest  run the suite on the oldest supported dependencies and python3.11 (own environment)"
	@echo "make reference-values  store the methods' numbers on a tiny problem anew"
	@echo "make bench        measure speed and memory against bare torch, skorch and retraining (half an hour)"
	@echo "make chaos        kill deletion requests at random points, with and without checkpoints, many times"
	@echo "make paper-study  the paper's protocol on FairFace and Adult; FAIRFACE=... ADULT=... say where the data are"
	@echo "make study        repeat the studies whose results are kept in the documentation"

install: $(STAMP)

venv:
	@test -x $(BIN)/python || test -n "$(PYTHON)" || \
		{ echo "No Python 3.11 to 3.13 with venv found. Name one: make PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "$(VENV) has $$($(BIN)/python --version)"
ifneq ($(origin PYTHON),file)
	@test "$$($(BIN)/python --version)" = "$$($(PYTHON) --version)" || \
		{ echo "but PYTHON=$(PYTHON) was asked for: remove $(VENV), or name another with VENV=..."; exit 1; }
endif

$(STAMP): pyproject.toml | venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --editable "$(if $(EXTRAS),.[$(EXTRAS)],.)"
	touch $@

demo:
	$(MAKE) install
	$(BIN)/grmu demo

test:
	$(MAKE) install EXTRAS=test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --doctest-modules grmu_sk tests

test-quick:
	$(MAKE) install EXTRAS=test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m quick tests

test-all:
	GRMU_TEST_EVERY_METHOD=1 $(MAKE) test

lint:
	$(MAKE) install EXTRAS=test,lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m numpydoc.hooks.validate_docstrings $$(git ls-files 'grmu_sk/*.py')
	$(BIN)/lint-imports
	$(BIN)/python .ci/size.py

docs:
	$(MAKE) install EXTRAS=docs
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html

test-oldest:
	test -x .venv-oldest/bin/python || python3.11 -m venv .venv-oldest
	.venv-oldest/bin/python tests/oldest.py > .venv-oldest/constraints.txt
	.venv-oldest/bin/python -m pip install --quiet --editable ".[test]" --constraint .venv-oldest/constraints.txt
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest -n 2 tests

reference-values:
	$(MAKE) install EXTRAS=test
	cd tests && PYTHONPATH=.:unlearners ../$(BIN)/python unlearners/test_reference_values.py

study:
	$(MAKE) install EXTRAS=test
	$(BIN)/python benchmarks/builtin_data_difficulty.py
	rm -f benchmarks/results/leakage_digits.csv  # or it would go on from there
	$(BIN)/python benchmarks/leakage_audit.py
	$(BIN)/python benchmarks/tuned_comparison.py --out docs/results/all_methods
	$(BIN)/python benchmarks/unlearning_study.py --data faces --out docs/results/study

paper-study:
	$(MAKE) install
	$(BIN)/python benchmarks/paper_study.py $(if $(FAIRFACE),--fairface $(FAIRFACE)) $(if $(ADULT),--adult $(ADULT))

bench:
	$(MAKE) install
	$(BIN)/python benchmarks/speed/run.py

chaos:
	$(MAKE) install EXTRAS=test
	OMP_NUM_THREADS=1 $(BIN)/python tests/audit/chaos_ledger.py --kills 200
	OMP_NUM_THREADS=1 $(BIN)/python tests/audit/chaos_ledger.py --kills 200 --checkpoint --methods miu,retrain,sisa

clean:
	rm -rf $(VENV) .venv-oldest .venv-second build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache docs/_build docs/_generated docs/gallery
