#!/bin/sh
# Print the Python to build the environment with: the newest that is there, runs and can make one.
# A name on the PATH proves nothing: version managers leave shims with no version behind them, and
# some distributions ship python3 without ensurepip. So each candidate is run before it is named.
probe='import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))'
for candidate in python3.13 python3.12 python3.11 python3 python3.14 python; do
    if "$candidate" -c "$probe" >/dev/null 2>&1; then
        "$candidate" -c 'import sys; print(sys.executable)'
        exit 0
    fi
done
echo "holdfast needs Python 3.11 or newer with the venv module (Debian: apt install python3-venv)." >&2
exit 1
