# A clone and two commands: `make demo` does the main job, `make test` runs every check and test.
# PYTHON=python3.12 chooses another interpreter; VENV=DIR another place.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test test-cpus torture check tour full-size docs completions terminal dist clean

demo: $(VENV)/.installed
	$(BIN)/cnsctl demo -o demo

test: check $(VENV)/.tests    # worksteal: the tests of a module stay together, so that what they share is made once
	$(BIN)/python -m pytest --slow -n 2 --dist worksteal

test-cpus: $(VENV)/.tests    # all tests with the arithmetic of older processors, then with two threads
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(BIN)/python -m pytest --slow -n 2 --dist worksteal
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 $(BIN)/python -m pytest --slow -n 2 --dist worksteal
	OMP_NUM_THREADS=2 $(BIN)/python -m pytest --slow

torture: $(VENV)/.tests    # the whole campaign against the store, with one table: docs/results/torture.md
	$(BIN)/python -m tests.torture

check: $(VENV)/.tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

tour: $(VENV)/.tests    # the tutorial's commands, with all steps
	$(BIN)/python -m pytest -q tests/test_readme.py --full-tour

full-size: $(VENV)/.installed    # costs at the size of SD 1.5, SD 2.1 and SDXL: 16 GB of memory, 8 GB of disk, hours on a CPU
	$(BIN)/python -m benchmarks.base_models

docs: $(VENV)/.installed    # the reference pages that follow from the code
	$(BIN)/python docs/generate.py

completions: $(VENV)/.tests    # also the golden files of the help texts
	$(BIN)/cnsctl completion bash > completions/cnsctl.bash
	$(BIN)/cnsctl completion zsh > completions/_cnsctl
	$(BIN)/cnsctl completion fish > completions/cnsctl.fish
	$(BIN)/python -m pytest tests/cli/test_help.py --write-golden

terminal: $(VENV)/.tests    # docs/terminal.svg: the README's commands in a terminal, with all steps
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/python docs/terminal.py

dist: $(VENV)/.installed    # sdist and wheel; then a user's first commands, in a bare environment outside the clone
	rm -rf dist
	$(BIN)/python -m pip install --quiet --disable-pip-version-check build
	$(BIN)/python -m build
	$(PYTHON) -m venv dist/bare
	dist/bare/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
	cd dist && HOME="$$PWD/home" PATH="$$PWD/bare/bin:$$PATH" CNSCTL_STORE="$$PWD/store" sh -ec ' \
	  cnsctl demo -o demo; cnsctl add dog "$(CURDIR)/examples/dog"; cnsctl gen "<dog> on a beach" -o beach.png; cnsctl verify'

# An editable install: the weights stay where git put them. Reinstalled when what it depends on changes.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.tests: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) demo dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
