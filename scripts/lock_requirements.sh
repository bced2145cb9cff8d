#!/usr/bin/env bash
# Writes requirements/development.txt anew: run it after a change to development.in or to a package's dependencies.
# Versions already locked stay unless --upgrade (or --upgrade-package NAME) is given.
#
# The lock holds versions and hashes for every system and Python version, and never the address of an index, so that it
# works with any mirror.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

UV_CUSTOM_COMPILE_COMMAND="scripts/lock_requirements.sh" .venv/bin/uv pip compile --quiet "$@" \
    --universal --python-version 3.10 --generate-hashes \
    --no-emit-index-url --no-emit-find-links \
    --excludes requirements/outside_lock.txt \
    --output-file requirements/development.txt \
    requirements/development.in ./*/pyproject.toml
