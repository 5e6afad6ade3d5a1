#!/usr/bin/env bash
# Style, types, layers, secrets. Run by `make lint` and .ci/run; every check runs, the first failure decides the exit code.
set -uo pipefail
cd "$(dirname "$0")/.."
infra/setup.sh lint || exit
bin=.venv/bin
failed=0
check() { "$@" || { echo "failed: $*" >&2; failed=1; }; }
reasons() { ! grep -rnE '(type: ignore(\[[a-z, -]+\])?|noqa(: [A-Z0-9, ]+)?)$' --include='*.py' posa_vla flows benchmarks tests infra; }

check $bin/ruff check .
check $bin/ruff format --check .
check $bin/mypy --strict posa_vla flows benchmarks
check $bin/mypy --strict --python-version 3.12 posa_vla flows benchmarks
check $bin/lint-imports
check infra/secrets.sh
check reasons # every suppression carries one
exit $failed
