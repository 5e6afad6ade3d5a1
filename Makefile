# Everything a newcomer needs; each target sets up first. `make` alone lists them.
.PHONY: help setup demo test test-long lint lock stack stack-test stack-survival clean
PRESET ?= demo
# What a shell may have for other programs (ROS's packages and pytest plug-ins, the repository that git names to a hook)
# reaches none of the commands below.
unexport PYTHONHOME PYTHONINSPECT PYTHONIOENCODING PYTHONOPTIMIZE PYTHONPATH PYTHONPLATLIBDIR PYTHONWARNINGS
unexport PYTEST_ADDOPTS PYTEST_PLUGINS
unexport GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_COMMON_DIR GIT_PREFIX

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: ## .venv with what demo and test need, and the headless GL library
	@infra/setup.sh

demo: setup ## the whole loop: demonstrations to a verified policy on a simulated robot
	@.venv/bin/posa retrain --preset $(PRESET)

test: setup ## the tests, with one run of the whole loop
	@.venv/bin/python -m pytest -m "not long" -n 2 --dist loadfile --no-loadscope-reorder

test-long: ## the longer tests that make test leaves out
	@infra/setup.sh browser
	@.venv/bin/python -m pytest -m long -n 2 --dist loadfile --no-loadscope-reorder

lint: ## style, types (Python 3.11 and 3.12), layers, secrets
	@infra/lint.sh

lock: ## resolves pyproject.toml into requirements.lock again
	@infra/lock.sh

stack: ## the servers and a simulated robot as containers on this machine; secrets are written to .env once
	@infra/make_env.sh
	@POSA_CODE_COMMIT=$$(git rev-parse HEAD) POSA_CODE_DIRTY=$$([ -z "$$(git status --porcelain -uno)" ] && echo false || echo true) \
	  docker compose up -d --build
	@docker compose ps

stack-test: ## starts a stack under its own name, retrains once, looks at robot and pages, stops it (LOCAL_IMAGES=1: no registry)
	@infra/setup.sh browser
	@.venv/bin/python tests/stack/stack_trial.py

stack-survival: setup ## kills every service of such a stack during retrainings, and prints what happened (half an hour)
	@.venv/bin/python tests/stack/stack_survival.py

clean: ## removes .venv and caches; keeps .posa/ (data, models, keys)
	@rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
