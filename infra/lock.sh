#!/usr/bin/env bash
# Resolves pyproject.toml into requirements.lock for Python 3.11 and 3.12: no hashes (a local torch wheel must fit), no
# CUDA packages (torch's own metadata brings them where its CUDA build is chosen). What is pinned stays where it still
# fits; UPGRADE=1 takes the newest of everything. Run by `make lock`.
set -euo pipefail
cd "$(dirname "$0")/.."
# Not by setup.sh, which installs what pyproject.toml asks for: the lock may not hold that yet.
if [ ! -x .venv/bin/uv ]; then
  echo "installing uv" >&2
  [ -x .venv/bin/pip ] || "${PYTHON:-python3}" -m venv .venv
  .venv/bin/pip install -q --no-compile --disable-pip-version-check "$(grep '^uv==' requirements.lock)"
fi
draft=$(mktemp)
trap 'rm -f "$draft"' EXIT
cp requirements.lock "$draft"
.venv/bin/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --no-annotate \
  ${UPGRADE:+--upgrade} --custom-compile-command "make lock" ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} -q -o "$draft"
grep -Ev '^(nvidia-|cuda-|triton)' "$draft" >requirements.lock
.venv/bin/uv pip compile infra/server.in --constraint requirements.lock --python-version 3.11 --no-annotate \
  ${UPGRADE:+--upgrade} --custom-compile-command "make lock" -q -o infra/server.lock
