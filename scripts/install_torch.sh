#!/usr/bin/env bash
# Installs torch: install_torch.sh UV BUILD [OPTION OF uv pip install]...
#
# UV is the program. BUILD is a name that its --torch-backend knows: cpu; cu126 and the like; or auto, the one that fits
# the driver of this machine's GPU. What torch depends on is in the locks (requirements/torch.in), except for the CUDA
# libraries, which come along with a CUDA build.
set -euo pipefail

torch_version=2.13.0
uv=$1 build=$2
shift 2
install=("$uv" pip install --excludes "$(dirname "${BASH_SOURCE[0]}")/../requirements/torch.in" "$@")

# A CPU build that lies in a folder known to pip needs no download.
if [ "$build" = cpu ] && [ -n "${UV_FIND_LINKS:-}" ] &&
    "${install[@]}" --quiet --quiet --no-index "torch==$torch_version+cpu"; then
    exit 0
fi
"${install[@]}" --torch-backend="$build" "torch==$torch_version" && exit 0
echo "torch $torch_version ($build build) could not be installed. Check the internet connection, or put its wheel in a" \
    "folder and tell pip of it: pip config set global.find-links FOLDER" >&2
exit 1
