# Everything installs itself into .venv from locks with hashes; Python 3.11+ and make are all it takes.
PYTHON ?= python3
BIN := .venv/bin
LOCK := tests/requirements.lock
FUZZ_LOCK := tests/fuzz/requirements.lock
RUNS ?= 200000
WORKERS ?= 3

.PHONY: help demo image pythons test check lint types run bench torture fuzz audit licences lock clean

help: ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

# The stamp is the lock itself: a changed lock or project file installs again, an unchanged one costs nothing.
.venv/installed: $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "kling-archiver needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 demo" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(LOCK)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation -e .
	@touch $@

demo: .venv/installed ## the main job end to end: simulated Kling account, real S3 server, the daemon (ARGS=--help)
	@$(BIN)/python -m tests.demo $(ARGS)

test: .venv/installed ## the whole test suite, in WORKERS=3 processes, since most tests wait for others to answer
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

lint: .venv/installed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: .venv/installed
	@$(BIN)/mypy --num-workers 2

check: lint types test ## lint, types and tests (the import picture is one of them)

run: .venv/installed ## the daemon with your own settings (see README)
	@$(BIN)/kling-receiver

bench: .venv/installed ## the figures, each a ratio to a baseline of the same run
	@$(BIN)/python -m tests.bench

torture: .venv/installed ## crashes by the hundred, every effect failing, power loss: prints figures, fails on any loss (ARGS=--help)
	@$(BIN)/python -m tests.torture $(ARGS)

.venv/fuzz-installed: $(FUZZ_LOCK) .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(FUZZ_LOCK)
	@touch $@

fuzz: .venv/fuzz-installed ## coverage-guided fuzzing of whatever reads strangers' bytes (RUNS=200000 each)
	@for target in payload answers places media urls; do $(BIN)/python -m tests.fuzz $$target --runs $(RUNS) || exit 1; done

audit: .venv/installed ## asks the advisory database about every locked version (needs uv and the internet)
	@uvx pip-audit@2.10.1 --strict --require-hashes --disable-pip --progress-spinner off -r requirements.lock -r $(LOCK) || { echo "make audit: pip-audit found something, or could not reach its database (see above)" >&2; exit 1; }

licences: .venv/installed ## write deploy/licences.md anew, after `make lock`
	@$(BIN)/python -m tests.project.licences

lock: ## write the locks anew (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --extra development -c requirements.lock pyproject.toml -o $(LOCK)
	echo hatchling | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links -c $(LOCK) - -o deploy/build.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links $(FUZZ_LOCK:.lock=.in) -o $(FUZZ_LOCK)

image: .venv/installed ## build the image with buildah, start it read-only as no root and by Compose, look at it (root, 5 min or more; ARGS="--base IMAGE")
	@$(BIN)/python -m tests.image $(ARGS)

pythons: .venv/installed ## install wheel and locks under every Python 3.11 to 3.13 that is here, and play the demo there (ARGS=--short: only start the daemon, under the others than the suite's)
	@$(BIN)/python -m tests.pythons $(ARGS)

clean: ## remove what demo and tests have made (the .venv stays)
	rm -rf .demo .image .pytest_cache .mypy_cache .ruff_cache .hypothesis
