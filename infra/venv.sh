#!/usr/bin/env bash
# Makes or refreshes .venv from requirements.txt, every file checked by its hash, and puts this checkout on its path.
set -euo pipefail
cd "$(dirname "$0")/.."
source infra/python.sh

echo "Installing Grebe into .venv: once, some two minutes and 8 GB of disk, most of it for machine learning ..." >&2
if [[ ! -x .venv/bin/python ]]; then
  "$(find_python)" -m venv .venv
fi

.venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip >/dev/null  # uv's have none

# uv installs these gigabytes in a third of pip's time; where there is none it goes into the .venv, nowhere else.
uv="$(command -v uv || true)"
if [[ -z "$uv" ]] || ! "$uv" --version >/dev/null 2>&1; then
  # Its own entry alone, with its hashes: from "uv==" to the first line that goes no further.
  if sed -n '/^uv==/,/[^\\]$/p' requirements.txt |
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r /dev/stdin; then
    uv=.venv/bin/uv
  else
    uv=""
  fi
fi

quiet=--quiet
if [[ -t 2 ]]; then quiet=""; fi  # a person sees how far it is

install() {
  if [[ -n "$uv" ]] && "$uv" pip install $quiet --compile-bytecode --python .venv/bin/python "$@"; then
    return
  fi
  # pip reads settings that uv does not (a company's mirror in pip.conf), so it gets its turn.
  .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@"
}

install --require-hashes -r requirements.txt
if command -v c++ >/dev/null; then
  # By pip: it builds from source, and uv wants hashes of what it builds with, too.
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-peers.txt
else
  echo "No C++ compiler, so hnswlib is left out, which benchmarks.search alone needs: sudo apt-get install -y g++" >&2
fi
install --no-deps --no-build-isolation -e .
