#!/usr/bin/env bash
# Says in one sentence what this machine lacks and the line that installs it.
set -euo pipefail
cd "$(dirname "$0")/.."
source infra/python.sh

# On Linux the lines are Debian's and Ubuntu's; elsewhere Homebrew's.
install_line() { if [[ "$(uname)" == Darwin ]]; then echo "brew install $2"; else echo "sudo apt-get install -y $1"; fi; }

if [[ ! -x .venv/bin/python && -z "$(find_python)" ]]; then
  echo "Grebe needs Python 3.11 or newer: $(install_line "python3.11 python3.11-venv" python@3.12)" >&2
  exit 1
fi

java="java"
if [[ -n "${JAVA_HOME:-}" ]]; then java="$JAVA_HOME/bin/java"; fi
# `java -version` says 'openjdk version "17.0.15"' on stderr; macOS has a stub that only fails.
major="$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1 || true)"
if [[ "$major" != 17 && "$major" != 21 ]]; then
  echo "Grebe needs Java 17 or 21 for Spark (found: ${major:-none}): $(install_line openjdk-17-jre-headless openjdk@17)" >&2
  exit 1
fi
