#!/usr/bin/env bash
# Style, types, layers, secrets. Run by `make lint` and .ci/run; every check runs, the first failure decides the exit code.
set -uo pipefail
cd "$(dirname "$0")/.."
infra/setup.sh lint || exit
bin=.venv/bin
failed=0
check() { "$@" || { echo "failed: $*" >&2; failed=1; }; }

check $bin/ruff check .
check $bin/ruff format --check .
check $bin/mypy --strict posa_vla flows
check $bin/mypy --strict --python-version 3.12 posa_vla flows
check $bin/lint-imports
check infra/secrets.sh
exit $failed
