#!/usr/bin/env bash
# Trains on several GPUs, or on several CPU processes where there is no GPU:
#   bash tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]
# On several machines, set NNODES, NODE_RANK, MASTER_ADDR and PORT. PYTHON chooses the interpreter.
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: bash tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]" >&2
    exit 2
fi
CONFIG=$1
GPUS=$2
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

export PYTHONPATH="$(dirname "$HERE")${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" "$HERE/torchrun.py" \
    --nnodes="${NNODES:-1}" \
    --node-rank="${NODE_RANK:-0}" \
    --master-addr="${MASTER_ADDR:-127.0.0.1}" \
    --master-port="${PORT:-29500}" \
    --nproc-per-node="$GPUS" \
    "$HERE/train.py" "$CONFIG" --launcher pytorch "${@:3}"
