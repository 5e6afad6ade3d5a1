#!/usr/bin/env bash
# No key is ever committed: scans every tracked file, fails on the first finding that is not marked in its line.
# Golden records and results are left out: their public keys, signatures and digests look like secrets. So is the packed
# workspace of an earlier commit: its private keys are test keys that sign nothing but a test's channel.
set -euo pipefail
cd "$(dirname "$0")/.."
infra/setup.sh lint
report=$(git ls-files -z | grep -Ezv '^requirements.lock$|/golden/|^docs/results/|^tests/fixtures/workspace-' | xargs -0 .venv/bin/detect-secrets scan --disable-plugin KeywordDetector)
.venv/bin/python - "$report" <<'PYTHON'
import json
import sys

found = json.loads(sys.argv[1])["results"]
for path, secrets in found.items():
    for secret in secrets:
        print(f"{path}:{secret['line_number']}: {secret['type']}", file=sys.stderr)
print(f"secrets: {sum(map(len, found.values()))} found", file=sys.stderr)
sys.exit(bool(found))
PYTHON
