#!/usr/bin/env bash
# Known vulnerabilities among the pinned packages. Reports; fails only on findings, not where no advisory service answers.
set -uo pipefail
cd "$(dirname "$0")/.."
infra/setup.sh tools || exit
report=$(mktemp)
trap 'rm -f "$report"' EXIT
if timeout 300 .venv/bin/pip-audit -r requirements.lock --no-deps --disable-pip --progress-spinner off >"$report" 2>&1; then
  echo "pip-audit: no known vulnerability"
elif grep -q '^Found [0-9]* known vulnerabilit' "$report"; then
  cat "$report"
  exit 1
else
  echo "pip-audit: no advisory service reachable ($(tail -1 "$report" | cut -c1-200))"
fi
