#!/usr/bin/env bash
# Puts a backup of infra/backup.sh back, where there is no stack, and starts it.
set -euo pipefail
cd "$(dirname "$0")/.."
fail() { printf 'error: %s\n' "$*" >&2; exit 2; }
[ $# = 1 ] || fail "expected the folder of a backup: infra/restore.sh FOLDER"
[ -f "$1/SHA256SUMS" ] || fail "$1 is no backup: SHA256SUMS is missing"
folder=$(realpath "$1")
env=${COMPOSE_ENV_FILES:-.env}
image=${POSA_PLATFORM_IMAGE:-posa-vla/platform:local}
(cd "$folder" && sha256sum --quiet -c SHA256SUMS) || fail "$folder is damaged: take another backup"
if [ -f "$env" ] && ! cmp -s "$env" "$folder/env"; then
  fail "$env has other secrets than the backup: move it away, the backup brings its own"
fi
umask 077
[ -f "$env" ] || { cp "$folder/env" "$env.part" && sync "$env.part" && mv "$env.part" "$env"; }
name=$(docker compose config --format json | python3 -c 'import json, sys; print(json.load(sys.stdin)["name"])')
for volume in $(docker compose config --volumes); do
  ! docker volume inspect "${name}_$volume" >/dev/null 2>&1 ||
    fail "volume ${name}_$volume exists: docker compose down -v first, if what is in it may go"
done
docker compose up --no-start --no-build
for volume in $(docker compose config --volumes); do
  [ -f "$folder/$volume.tar" ] || continue
  echo "volume $volume" >&2
  docker run --rm --user 0 --network none --entrypoint tar -v "${name}_$volume:/to" -v "$folder:/from:ro" "$image" \
    --numeric-owner -C /to -xpf "/from/$volume.tar"
done
docker compose up -d --no-build
