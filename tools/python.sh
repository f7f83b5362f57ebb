#!/bin/sh
# Print a Python that can make the environment (3.11 or newer, with venv), or say what is missing.
for name in ${PYTHON:-python3 python3.11 python3.12 python3.13 python}; do
    command -v "$name" >/dev/null 2>&1 || continue
    "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
    if "$name" -c 'import venv, ensurepip' 2>/dev/null; then
        echo "$name"
        exit 0
    fi
    echo "medleak: $name has no venv module: install it (Debian, Ubuntu: apt install python3-venv)" >&2
    exit 2
done
echo "medleak: Python 3.11 or newer is missing: install it, or name one with PYTHON=..." >&2
exit 2
