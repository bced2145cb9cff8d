#!/usr/bin/env bash
# Runs every benchmark that needs no annotated images (about ten minutes on two cores); accuracy.py and
# annotation_count.py are started by hand.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup_environment.sh
for name in instances targets network freed_memory tile_agreement large_frame workers; do
    .venv/bin/python "benchmarks/$name.py"
done
