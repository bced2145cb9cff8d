#!/usr/bin/env bash
# Makes the development environment in .venv or brings it up to date; returns at once when nothing changed.
#
# Locked packages come first (versions and hashes: requirements/development.txt), then torch (scripts/install_torch.sh; its
# build fits the machine), then this repository's packages, editable. Called by ./run and ./test.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=.venv/bin/python
uv=.venv/bin/uv
lock=requirements/development.txt
stamp=.venv/set_up_from # written last; see describe

say() { echo "[setup] $*" >&2; }
fail() { say "$*"; exit 1; }

identity() {
    "$python" -I -S -c 'import sys; print(sys.executable, sys.implementation.cache_tag)' 2>/dev/null
}

sources_hash() {
    "$python" -I -S -c '
import hashlib, sys
digest = hashlib.sha256()
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        digest.update(path.encode() + b"\0" + file.read() + b"\0")
print(digest.hexdigest())' scripts/setup_environment.sh scripts/install_torch.sh "$lock" ./*/pyproject.toml
}

has_nvidia_gpu() {
    [ -e /proc/driver/nvidia/version ] || [ -e /sys/module/nvidia/version ] || command -v nvidia-smi >/dev/null
}

torch_build() { # a name that uv's --torch-backend knows
    if [ -n "${UV_TORCH_BACKEND:-}" ]; then
        echo "$UV_TORCH_BACKEND"
    elif has_nvidia_gpu; then
        echo auto
    else
        echo cpu
    fi
}

describe() { # line 1: where .venv is and its Python; 2: hash of what it is made from; 3: build of torch
    identity && sources_hash && torch_build
}

up_to_date() {
    [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$(describe)" ]
}

find_python() {
    local candidate suits
    suits='import ensurepip, sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))'
    for candidate in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do
        if "$candidate" -c "$suits" 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "No Python 3.10 to 3.14 with its venv module was found. Install one (on Debian and Ubuntu:" \
        "apt-get install python3-venv), see that it is on the PATH, and start again."
}

if up_to_date; then
    exit 0
fi
mkdir -p .cache
if command -v flock >/dev/null; then # two set-ups at a time would trip over each other
    exec 9>.cache/setup.lock
    flock 9
    if up_to_date; then
        exit 0
    fi
fi

quiet=--quiet
if [ -t 2 ]; then
    quiet=
fi

# Without a stamp an earlier set-up broke off, and what it left cannot be told from what is whole.
if [ ! -e "$stamp" ] || [ "$(head -n 1 "$stamp")" != "$(identity)" ]; then
    base_python=$(find_python)
    say "making .venv with $("$base_python" --version); the first time takes a few minutes"
    rm -rf .venv
    "$base_python" -m venv .venv
fi
rm -f "$stamp"

settings=$("$python" scripts/settings_of_pip.py)
eval "$settings"
# Like pip, take a file from whichever index has it: the hashes of the lock say which files are right.
export UV_INDEX_STRATEGY=unsafe-best-match

"$python" -m pip install --quiet --quiet --disable-pip-version-check --require-hashes -r requirements/build.txt
say "packages of $lock"
$uv pip sync $quiet --python "$python" --require-hashes "$lock"
say "torch ($(torch_build) build)"
scripts/install_torch.sh "$uv" "$(torch_build)" $quiet --python "$python"
say "this repository's packages"
for manifest in ./*/pyproject.toml; do
    package=$(dirname "$manifest")
    $uv pip install --quiet --python "$python" --no-deps --no-build-isolation --offline --editable "$package"
done
$uv pip check --quiet --python "$python" ||
    fail "The packages above do not fit together. Where a pyproject.toml has changed: scripts/lock_requirements.sh"

describe >"$stamp.new"
mv "$stamp.new" "$stamp"
say "ready"
