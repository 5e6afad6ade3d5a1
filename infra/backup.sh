#!/usr/bin/env bash
# Backs up the stack's state, keys and secrets among it, into a new folder: stops it, packs its volumes and .env, and
# starts it again. Robots go on with what they have meanwhile.
set -euo pipefail
cd "$(dirname "$0")/.."
fail() { printf 'error: %s\n' "$*" >&2; exit 2; }
[ $# = 1 ] || fail "expected one folder that is not there yet: infra/backup.sh FOLDER"
folder=$(realpath -m "$1")
env=${COMPOSE_ENV_FILES:-.env}
image=${POSA_PLATFORM_IMAGE:-posa-vla/platform:local}
[ ! -e "$folder" ] || fail "$folder exists already: name a new folder"
[ -f "$env" ] || fail "$env does not exist: is this the folder of the stack?"
umask 077
name=$(docker compose config --format json | python3 -c 'import json, sys; print(json.load(sys.stdin)["name"])')
draft=$folder.part
rm -rf "$draft"
mkdir -p "$draft"
trap 'docker compose up -d --no-build --no-recreate' EXIT
docker compose stop
for volume in $(docker compose config --volumes); do
  [ "$volume" != robot-socket ] || continue
  echo "volume $volume" >&2
  docker run --rm --user 0 --network none --entrypoint tar -v "${name}_$volume:/from:ro" -v "$draft:/to" "$image" \
    --numeric-owner -C /from -cf "/to/$volume.tar" .
done
cp "$env" "$draft/env"
(cd "$draft" && sha256sum -- * >SHA256SUMS)
sync -f "$draft"
mv "$draft" "$folder"
du -sh "$folder" >&2
