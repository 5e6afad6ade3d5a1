#!/usr/bin/env bash
# The wheel, installed with its base dependencies alone in a clean environment outside the checkout, runs `posa --help`
# and verifies a bundle: what a robot does. Run by .ci/run.
set -euo pipefail
cd "$(dirname "$0")/.."
infra/setup.sh tools
root=$PWD
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
.venv/bin/python -m build --wheel --outdir "$place/dist" . >"$place/build.log" 2>&1 || { cat "$place/build.log" >&2; exit 1; }
.venv/bin/python -m venv "$place/venv"
"$place"/venv/bin/pip install -q --disable-pip-version-check -c requirements.lock "$place"/dist/*.whl
cd "$place"
unset PYTHONPATH
venv/bin/posa --help >/dev/null
venv/bin/posa init "$place/mine"
venv/bin/python "$root/infra/verify_bundle_check.py" "$root"
echo "wheel: installs base-only, runs posa --help, verifies a bundle, refuses a changed one"
