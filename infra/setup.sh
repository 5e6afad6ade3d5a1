#!/usr/bin/env bash
# Sets up a checkout: .venv with what `make demo` and `make test` need, the package itself, the headless GL library.
#   infra/setup.sh [EXTRA...]    EXTRA: lint, tools or browser of pyproject.toml, on top
# Versions are those of requirements.lock. Run by `make setup`, and with an extra by the scripts that need it. A second
# call does nothing and needs no network.
set -euo pipefail
cd "$(dirname "$0")/.."
# Of other programs; what is installed here needs none.
unset PYTHONHOME PYTHONINSPECT PYTHONIOENCODING PYTHONOPTIMIZE PYTHONPATH PYTHONPLATLIBDIR PYTHONWARNINGS

say() { printf '%s\n' "$*" >&2; }
stop() { say "error: $*"; exit 2; }

as_root() { # runs a command as root where that needs no question, else fails
  if [ "$(id -u)" = 0 ]; then "$@"; elif sudo -n true 2>/dev/null; then sudo -n "$@"; else return 1; fi
}

apt_install() { # installs Debian packages where that is allowed, else fails
  command -v apt-get >/dev/null || return 1
  as_root true || return 1
  say "installing $* through apt"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null 2>&1 && return
  as_root apt-get update -qq >/dev/null 2>&1 || true
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; }

find_python() { # a shim that only says "not installed" fails `supported`, and the next candidate is tried
  local candidate
  for candidate in ${PYTHON:-} python3.11 python3.12 python3 python; do
    if command -v "$candidate" >/dev/null && supported "$candidate"; then command -v "$candidate"; return; fi
  done
  return 1
}

has_gl() { .venv/bin/python -c 'from posa_vla.sim.gl import require_gl; require_gl()' 2>/dev/null; }

install() { # uv, or pip where uv cannot; their chatter goes into a log, what is left is progress, and the errors
  if [ "$installer" = uv ]; then
    .venv/bin/python infra/uv_install.py "$@" 2>&1 | tee -a "$log" | awk '
      /^Resolved/ && $2 > 1 { print "  " $2 " packages found"; fflush() }
      /^Downloading .*\([0-9][0-9]+[0-9.]*MiB\)|GiB/ { print "  downloading " $2 " " $3; fflush() }
      /^Installed/ && $2 > 1 { print "  " $2 " packages unpacked"; fflush() }' >&2 && return
    installer=pip
    say "uv could not install (${log} says why): pip does, which takes longer"
  fi
  .venv/bin/pip install --no-compile --progress-bar off "$@" 2>&1 | tee -a "$log" | awk '
    /^Collecting/ { if (++n % 40 == 0) { print "  " n " packages found"; fflush() } }
    /^Installing collected/ && n > 1 { print "  unpacking"; fflush() }
    /^ERROR/ { print; fflush() }' >&2 || stop "pip could not install: the whole story is in $log" \
    "(where pyproject.toml was changed, make lock comes first)"
}

choose_installer() {
  export PIP_DISABLE_PIP_VERSION_CHECK=1
  log=.venv/setup.log
  : >"$log"
  installer=uv
  .venv/bin/pip install --no-compile --progress-bar off "$(grep '^uv==' requirements.lock)" >>"$log" 2>&1 || {
    installer=pip
    say "uv could not be installed (${log} says why): pip does the rest, which takes longer"
  }
}

install_listed() { # what infra/dependencies.py prints for these arguments, in the versions of requirements.lock
  local listed requirement requirements=()
  listed=$(.venv/bin/python infra/dependencies.py "$@")
  while read -r requirement; do requirements+=("$requirement"); done <<<"$listed"
  install -c requirements.lock "${requirements[@]}"
}

made_at() { # the folder that .venv was made in, by the shebang of a script in it, or by sh's way around a long one
  sed -n -e '1s|^#!\(/.*\)/\.venv/bin/python.*|\1|p' -e "2s|^'''exec' ['\"]*\(/.*\)/\.venv/bin/python.*|\1|p" \
    .venv/bin/posa 2>/dev/null || true
}

follow_move() { # a checkout that was copied or renamed with its .venv: its scripts start the first one's Python and code
  local old file
  old=$(made_at)
  if [ -z "$old" ] || [ "$old" -ef . ]; then return; fi # through a link this folder has another path
  if [ "$old/.venv" -ef .venv ]; then
    stop ".venv is a link to that of ${old}, whose scripts run the code there: rm .venv, and run this again"
  fi
  say "this checkout was copied or moved from ${old} with its .venv"
  case $old$PWD in
    *[!A-Za-z0-9/._+,@%=:~-]*) # no shebang holds such a path, and no pattern below
      rm -rf .venv
      return
      ;;
  esac
  for file in .venv/bin/* .venv/pyvenv.cfg .venv/lib/python*/site-packages/*.pth \
    .venv/lib/python*/site-packages/posa_vla-*.dist-info/direct_url.json; do
    if [ -f "$file" ] && [ ! -L "$file" ] && grep -qIF "$old" "$file"; then
      sed "s#${old}\([/'\" ]\|\$\)#${PWD}\1#g" "$file" >"$file.moved"
      chmod --reference="$file" "$file.moved"
      mv "$file.moved" "$file" # a new file: the first checkout may share the old one by a hard link
    fi
  done
  say "its scripts and the path to its code now name this folder"
}

is_done() { [ "$(cat "$stamp${1:+-$1}" 2>/dev/null)" = "$wanted" ]; }

set_up_checkout() {
  [ "$(uname -s)" = Linux ] || say "note: only Linux is tested; on $(uname -s) this may need help"
  command -v git >/dev/null || apt_install git || stop "git is missing: sudo apt-get install git"

  python=$(find_python) || {
    found=$(python3 --version 2>/dev/null || echo "no Python 3")
    stop "Python 3.11 or 3.12 is needed, found ${found}: sudo apt-get install python3.11 python3.11-venv" \
      "(where Debian has neither: pip install uv && PYTHON=\$(uv python install 3.12 && uv python find 3.12) make setup)"
  }
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    apt_install "python${version}-venv" || stop "this Python has no venv module: sudo apt-get install python${version}-venv"
  fi

  say "setting up .venv with Python ${version}: downloads about 0.7 GB (torch for CPU alone among it), 2.3 GB installed."
  say "Where the package index offers torch's CUDA build only, about 3 GB more; TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu avoids that."
  rm -f "$stamp"
  supported .venv/bin/python || rm -rf .venv
  [ -x .venv/bin/pip ] || "$python" -m venv .venv
  choose_installer
  if [ -n "${TORCH_INDEX_URL:-}" ]; then
    say "torch from ${TORCH_INDEX_URL}"
    install --index-url "$TORCH_INDEX_URL" --no-deps "$(grep '^torch==' requirements.lock)"
  fi
  say "installing what make demo and make test need (log: ${log})"
  install_listed platform sim test
  install --no-deps -e .
  say "byte-compiling what the loop imports"
  .venv/bin/python infra/warm_imports.py >>"$log" 2>&1 || say "note: that failed (${log} says why); the first start of each command takes longer"

  if [ "$(uname -s)" = Linux ] && ! has_gl; then
    apt_install libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0 ||
      stop "no headless GL library for the simulator: sudo apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0"
  fi
  printf '%s\n' "$wanted" >"$stamp"
  say "set up. Next: make demo, or .venv/bin/posa --help"
}

set_up_extra() {
  say "installing the extra '$1' (this once)"
  choose_installer
  install_listed --extras-alone "$1"
  printf '%s\n' "$wanted" >"$stamp-$1"
}

for extra in "$@"; do
  case $extra in lint | tools | browser) ;; *) stop "unknown extra '$extra': expected lint, tools or browser" ;; esac
done
follow_move
stamp=.venv/.posa-setup
wanted=$(cat requirements.lock pyproject.toml infra/setup.sh | sha256sum | cut -d' ' -f1)
if ! { [ -x .venv/bin/posa ] && is_done && command -v git >/dev/null; }; then set_up_checkout; fi
for extra in "$@"; do
  if ! is_done "$extra"; then set_up_extra "$extra"; fi
done
