# One interface for people and CI. PYTHON may name another interpreter (3.11 or newer).
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: run test test-real soak scale chaos lint typecheck bench bench-gate docs lock clean

run: $(VENV)/.runs                       ## install what runs, start the gateway
	$(BIN)/python start_gateway.py $(ARGS)

test: $(VENV)/.tests                     ## everything a fresh machine can do, in under 5 minutes
	$(BIN)/python -m pytest -q -n auto --dist loadfile $(ARGS)

test-real: $(VENV)/.tests                ## against real programs: llama.cpp's server, the ollama program, Chromium
	$(BIN)/python -m pip install -q -r requirements-real.txt
	$(BIN)/python -m pytest -q -s tests/real $(ARGS)

soak: $(VENV)/.tests                     ## ten minutes at half capacity, with all that goes wrong mixed in
	cd tests && $(abspath $(BIN))/python -m soak.mixed --page docs/evidence/soak.md $(ARGS)

scale: $(VENV)/.tests                    ## ten thousand short streams through every transport: memory, sockets, tasks
	cd tests && $(abspath $(BIN))/python -m soak.streams --page docs/evidence/streams.md $(ARGS)

chaos: $(VENV)/.tests                    ## Redis is frozen, killed, slow, full, locked, comes and goes: four minutes of load
	cd tests && $(abspath $(BIN))/python -m chaos.redis_faults --page docs/evidence/redis.md $(ARGS)

lint: $(VENV)/.tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: $(VENV)/.tests
	$(BIN)/mypy

bench: $(VENV)/.tests                    ## cost a request and a token, against references in the same run
	$(BIN)/python bench/run.py $(ARGS)

bench-gate: $(VENV)/.tests               ## the short form: fails when P2, P3, P4, P6 or P9 is missed by more than 30 %
	$(BIN)/python bench/run.py --gate $(ARGS)

docs: $(VENV)/.tests                     ## makes the generated tables of docs/ anew
	$(BIN)/python -m docs.make_tables

lock:                                    ## pins requirements*.txt anew, with hashes
	$(BIN)/python -m pip install -q pip-tools
	$(BIN)/pip-compile -q --strip-extras --generate-hashes --allow-unsafe -o requirements.txt pyproject.toml
	$(BIN)/pip-compile -q --strip-extras --generate-hashes --allow-unsafe -o requirements-dev.txt requirements-dev.in

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runs: requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --require-hashes -r requirements.txt
	touch $@

$(VENV)/.tests: requirements-dev.txt requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --require-hashes -r requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
