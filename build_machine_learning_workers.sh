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
      TORCH_BUILD          PyTorch's build: cu126 (default), cu130, cpu
      BASE_IMAGE           image to build in (default nvidia/cuda:12.1.0-cudnn8-devel-ubuntu22.04)
      RUNTIME_IMAGE        image to ship on (default nvidia/cuda:12.1.0-base-ubuntu22.04; BASE_IMAGE if only that is given)
      PUBLISHED_MODELS     yes: with the published models; no: without. If it is not given, they are left out where they
                           cannot be downloaded
      HF_ENDPOINT          where the published models are (default: the Hugging Face hub)
  -h, --help               show this text

BUILD_NETWORK=host lets the builds use this machine's network directly.
WORKER_IMAGE_TAG=name builds ...:name instead of ...:latest.
docs/containers.md tells more.
END
}

fail() {
    echo "$*" >&2
    exit 1
}

no_cache=() build_args=() wanted=() published= base= runtime=
while [ $# -gt 0 ]; do
    case $1 in
        --no-cache) no_cache=("$1") ;;
        --build-arg)
            case ${2:-} in
                PUBLISHED_MODELS=yes | PUBLISHED_MODELS=no) published=${2#*=} ;;
                PUBLISHED_MODELS=*) fail "PUBLISHED_MODELS is yes or no." ;;
                BASE_IMAGE=?*) base=${2#*=} ;;
                RUNTIME_IMAGE=?*) runtime=${2#*=} ;;
                TORCH_BUILD=?* | HF_ENDPOINT=?*) build_args+=(--build-arg "$2") ;;
                *) fail "--build-arg needs NAME=VALUE, such as TORCH_BUILD=cpu. See --help. (Given: ${2:-nothing})" ;;
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
    compose=(docker compose) build=(build)
elif command -v docker-compose >/dev/null; then
    compose=(docker-compose) build=(build --force-rm)
else
    fail "Neither 'docker compose' nor 'docker-compose' is installed. Install Docker's compose plugin."
fi
docker version >/dev/null 2>&1 || fail "No Docker engine answers. 'docker version' says why."

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

build_selected() { # build_selected PUBLISHED_MODELS [OPTION]...
    local worker models=$1
    shift
    for worker in "${selected[@]}"; do
        echo "=== ${worker/\//_}"
        "${compose[@]}" --file "${worker%/*}/docker-compose.yaml" "${build[@]}" "$@" \
            ${build_args[@]+"${build_args[@]}"} --build-arg "PUBLISHED_MODELS=$models" "${worker#*/}" || return
        set -- # with --no-cache only the first, or the others would share nothing with it
    done
}

trap 'exit 130' INT
note=
if [ -n "$published" ]; then
    build_selected "$published" ${no_cache[@]+"${no_cache[@]}"}
else
    build_selected no ${no_cache[@]+"${no_cache[@]}"}
    echo "=== The same with the published models"
    if ! build_selected yes; then
        build_selected no
        note="The published models could not be downloaded: the images hold the small model that is shipped with the
package, which is called 'pretrained' as well. To have the published ones, build again with a connection to their hub."
    fi
fi
echo "=== Built:"
for worker in "${selected[@]}"; do
    image=annotations/${worker/\//_}:${WORKER_IMAGE_TAG:-latest}
    docker images "$image" --format '{{.Repository}}:{{.Tag}}  {{.Size}}'
done
[ -z "$note" ] || echo "$note"
