#!/usr/bin/env bash
# Builds the container images of the workers that learn, for the Docker engine of this machine.
set -euo pipefail

usage() {
    cat <<END
Usage: ./build_machine_learning_workers.sh [OPTION]... [WORKER]...

Builds the images of all workers, or of those named: a folder of workers/annotations (condensatenet) or one of its
services (condensatenet_predict, condensatenet_train).

  --no-cache               install everything anew
  --build-arg NAME=VALUE   an argument of the Dockerfiles; may be given several times:
      TORCH_BUILD          build of torch: cu126 (default; drivers from 2022 on), cu130, cpu
      BASE_IMAGE           image to build in (default nvidia/cuda:12.1.0-cudnn8-devel-ubuntu22.04)
      RUNTIME_IMAGE        image to ship on (default nvidia/cuda:12.1.0-base-ubuntu22.04, or BASE_IMAGE if that is given)
      PUBLISHED_MODELS     yes (download them into the images) or no; by default yes, and no where that is impossible
  -h, --help               show this text

BUILD_NETWORK=host lets the builds use this machine's network directly. IMAGE_TAG=name builds ...:name instead of ...:latest.
END
}

fail() {
    echo "$*" >&2
    exit 1
}

options=() build_args=() wanted=() published=try base= runtime=
while [ $# -gt 0 ]; do
    case $1 in
        --no-cache) options+=("$1") ;;
        --build-arg)
            [[ ${2:-} == [A-Z]*=* ]] || fail "--build-arg needs NAME=VALUE, such as TORCH_BUILD=cpu"
            case $2 in
                PUBLISHED_MODELS=yes | PUBLISHED_MODELS=no) published=${2#*=} ;;
                BASE_IMAGE=*) base=${2#*=} ;;
                RUNTIME_IMAGE=*) runtime=${2#*=} ;;
                TORCH_BUILD=* | HF_ENDPOINT=*) build_args+=(--build-arg "$2") ;;
                *) fail "The Dockerfiles have no argument $2. See --help." ;;
            esac
            shift
            ;;
        -h | --help) usage && exit ;;
        -*) usage >&2 && fail "Unknown option: $1" ;;
        *) wanted+=("$1") ;;
    esac
    shift
done
[ -z "$base" ] || build_args+=(--build-arg "BASE_IMAGE=$base")
[ -z "${runtime:-$base}" ] || build_args+=(--build-arg "RUNTIME_IMAGE=${runtime:-$base}")

cd "$(dirname "${BASH_SOURCE[0]}")/workers/annotations"
if docker compose version >/dev/null 2>&1; then
    compose=(docker compose)
elif command -v docker-compose >/dev/null; then
    compose=(docker-compose)
else
    fail "Neither 'docker compose' nor 'docker-compose' is installed. Install Docker's compose plugin."
fi
docker version >/dev/null 2>&1 || fail "No Docker engine answers. Start it, or ask to be let use it: docker version"

workers=() # folder and service, with a slash between
for file in */docker-compose.yaml; do
    folder=${file%/*}
    services=$("${compose[@]}" --file "$file" config --services)
    for service in $services; do
        workers+=("$folder/$service")
    done
done
selected=()
for name in ${wanted[@]+"${wanted[@]}"}; do
    known=no
    for worker in "${workers[@]}"; do
        if [ "$name" = "${worker%/*}" ] || [ "$name" = "${worker/\//_}" ]; then
            selected+=("$worker")
            known=yes
        fi
    done
    [ $known = yes ] || fail "There is no worker $name. There are: ${workers[*]//\//_}"
done
[ ${#selected[@]} -gt 0 ] || selected=("${workers[@]}")

build() { # build PUBLISHED_MODELS [OPTION]...
    local worker published=$1
    shift
    for worker in "${selected[@]}"; do
        echo "=== ${worker/\//_}"
        "${compose[@]}" --file "${worker%/*}/docker-compose.yaml" build "$@" \
            ${build_args[@]+"${build_args[@]}"} --build-arg "PUBLISHED_MODELS=$published" "${worker#*/}" || return
    done
}

note=
case $published in
    try)
        if ! build yes ${options[@]+"${options[@]}"}; then
            echo "=== This did not work; trying again without the published models." >&2
            build no # what was installed so far is in the engine's cache, even after --no-cache
            note="The published models could not be downloaded: the images hold the small model that is shipped with the
package, which is called 'pretrained' as well. To have the published ones, build again with a connection to their hub."
        fi
        ;;
    *) build "$published" ${options[@]+"${options[@]}"} ;;
esac
echo "=== Built:"
for worker in "${selected[@]}"; do
    docker images "annotations/${worker/\//_}:${IMAGE_TAG:-latest}" --format '{{.Repository}}:{{.Tag}}  {{.Size}}'
done
[ -z "$note" ] || echo "$note"
