#!/usr/bin/env bash
# Writes every lock anew, those in requirements/ and those of the external modules: run it after a change to a .in file there
# or to the dependencies of a package or a module. Versions already locked stay unless --upgrade (or --upgrade-package NAME)
# is given.
#
# The locks hold versions and hashes for every system and Python version, and never the address of an index, so that they
# work with any mirror.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

settings=$(.venv/bin/python scripts/settings_of_pip.py)
eval "$settings"
# One index that has the files of every system: one beside it with some of them would leave out the hashes of the others.
unset UV_INDEX UV_FIND_LINKS
export UV_PYTHON_DOWNLOADS=never # a Python of the oldest version is not needed to lock for it
export UV_CUSTOM_COMPILE_COMMAND="scripts/lock_requirements.sh"

repository=$PWD
options=("$@")

compile() { # compile LOCK SOURCES
    local lock=$1
    shift
    "$repository/.venv/bin/uv" pip compile --quiet ${options[@]+"${options[@]}"} \
        --universal --python-version 3.10 --generate-hashes \
        --no-emit-index-url --no-emit-find-links \
        --excludes "$repository/requirements/outside_lock.txt" \
        --output-file "$lock" "$@"
}

lock() { # lock NAME [MORE SOURCES]
    local name=$1
    shift
    compile "requirements/$name.txt" "requirements/$name.in" "$@"
}

lock_module() { # lock_module NAME [OPTIONS]
    local name=$1
    shift
    (cd "external_modules/modules/$name" && compile requirements.txt pyproject.toml "$@")
}

lock development ./*/pyproject.toml
lock build --constraint requirements/development.txt
lock torch --constraint requirements/development.txt
lock workers --constraint requirements/development.txt --excludes requirements/outside_images.txt \
    {annotation_client,annotation_utilities,condensatenet,worker_client}/pyproject.toml
lock girder_server
lock_module condensatenet_module --constraint ../../../requirements/development.txt # with which condensatenet is tested
lock_module cellpose_module
lock_module threshold_module
