#!/usr/bin/env bash
# Makes .cache/girder_server/venv, the environment of the real Girder server that tests talk to, or brings it up to date;
# returns at once when nothing changed. Needs the development environment (scripts/setup_environment.sh). Called by ./test.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

uv=.venv/bin/uv
lock=requirements/girder_server.txt
environment=.cache/girder_server/venv
python=$environment/bin/python
stamp=$environment/set_up_from # written last; see describe

say() { echo "[girder server] $*" >&2; }
fail() { say "$*"; exit 1; }

describe() { # line 1: where the environment is and its Python; 2: hash of what it is made from
    "$python" -I -S -c '
import hashlib, sys
print(sys.executable, sys.implementation.cache_tag)
digest = hashlib.sha256()
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        digest.update(path.encode() + b"\0" + file.read() + b"\0")
print(digest.hexdigest())' scripts/setup_girder_server.sh "$lock" 2>/dev/null
}

up_to_date() {
    [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$(describe)" ]
}

if up_to_date; then
    exit 0
fi
[ -x "$uv" ] || fail "There is no $uv. Run scripts/setup_environment.sh first, then start again."
mkdir -p "${environment%/*}"
if command -v flock >/dev/null; then # two set-ups at a time would trip over each other
    exec 9>"${environment%/*}/setup.lock"
    flock 9
    if up_to_date; then
        exit 0
    fi
fi

say "making $environment from $lock"
# Made anew rather than repaired: that takes seconds, and uv has the packages in its cache.
rm -rf "$environment"
.venv/bin/python -m venv --without-pip "$environment" ||
    fail "$environment could not be made. Is there room on the disk? Start again when the reason above is gone."
settings=$(.venv/bin/python scripts/settings_of_pip.py)
eval "$settings"
export UV_INDEX_STRATEGY=unsafe-best-match # like pip, take a file from whichever index has it
$uv pip sync --quiet --python "$python" --require-hashes "$lock" ||
    fail "The packages of $lock could not be installed. Check the internet connection or pip's settings, and start again."
describe >"$stamp.new"
mv "$stamp.new" "$stamp"
say "ready"
