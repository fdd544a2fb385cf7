#!/usr/bin/env bash
# Measures a checkpoint on several GPUs, or on several CPU processes where there is no GPU:
#   bash tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [arguments of tools/test.py]
# On several machines, set NNODES, NODE_RANK, MASTER_ADDR and PORT. PYTHON chooses the interpreter.
set -euo pipefail

if [ $# -lt 3 ]; then
    echo "usage: bash tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [arguments of tools/test.py]" >&2
    exit 2
fi
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "${PYTHON:-python}" "$HERE/torchrun.py" "$3" "$HERE/test.py" "$1" "$2" --launcher pytorch "${@:4}"
