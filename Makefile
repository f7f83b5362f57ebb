# make demo · make test · make bench · make check: each does all its own set-up on a fresh machine.
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# A worker that computes is one thread: two of many threads each stand in each other's way.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test bench slow check clean
.DEFAULT_GOAL := demo

demo: $(READY)
	$(BIN)/medleak grid demo

test: $(READY)
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

slow: $(READY)
	$(BIN)/python -m pytest -m slow

bench: $(READY)
	$(BIN)/python -m pytest -m bench tests --benchmark-enable --benchmark-columns=min,median,max,rounds

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pip check

$(READY): pyproject.toml constraints.txt tools/python.sh
	@python=$$(sh tools/python.sh) && "$$python" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,he,mpc]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
