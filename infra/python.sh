# Sourced: prints a fitting Python's path, or nothing. PYTHON=… in the environment goes first.
find_python() {
  local name
  for name in ${PYTHON:+"$PYTHON"} python3.12 python3.11 python3.13 python3; do
    if "$name" -c 'import sys; sys.exit(not sys.version_info >= (3, 11))' >/dev/null 2>&1; then
      command -v "$name"
      return
    fi
  done
}
