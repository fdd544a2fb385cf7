#!/usr/bin/env bash
# Trains on several GPUs, or on several CPU processes where there is no GPU:
#   bash tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]
# On several machines, set NNODES, NODE_RANK, MASTER_ADDR and PORT. PYTHON chooses the interpreter.
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: bash tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]" >&2
    exit 2
fi
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "${PYTHON:-python}" "$HERE/torchrun.py" "$2" "$HERE/train.py" "$1" --launcher pytorch "${@:3}"
