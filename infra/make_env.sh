#!/usr/bin/env bash
# Writes .env with random secrets, once: a file that is there is only completed, never changed. Run by `make stack`.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 077
file=${1:-.env}
draft=$(mktemp "$file.XXXXXX")
trap 'rm -f "$draft"' EXIT
[ ! -f "$file" ] || cat "$file" >"$draft"
random() { head -c "$1" /dev/urandom | od -An -tx1 | tr -d ' \n'; }
want() { # name, value: appended where the name is not set yet
  if ! grep -q "^$1=" "$draft"; then printf '%s=%s\n' "$1" "$2" >>"$draft"; fi
}
[ -s "$draft" ] || echo "# Secrets of the stack, for docker compose; keep a copy where backups are. docs/operations.md: rotation" >"$draft"
for name in POSTGRES_PASSWORD PREFECT_DB_PASSWORD MLFLOW_DB_PASSWORD REDIS_PASSWORD MLFLOW_PASSWORD MLFLOW_SECRET_KEY \
  RAY_TOKEN S3_SECRET_KEY S3_ROBOT_SECRET_KEY; do
  want "$name" "$(random 24)"
done
want S3_ACCESS_KEY "platform-$(random 6)"
want S3_ROBOT_ACCESS_KEY "robot-$(random 6)"
want PREFECT_AUTH "admin:$(random 24)"
sync "$draft"
mv "$draft" "$file"
