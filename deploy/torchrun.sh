#!/usr/bin/env bash
# Train on one to four machines that may come and go; start the same line on each of them:
#   deploy/torchrun.sh FIRST_MACHINE:29400 CONFIG WORK_DIR --amp
# WORK_DIR is a folder that all machines see. A process that dies, and a machine that comes or leaves, restart
# all processes, which resume from the last checkpoint. NODES: numbers of machines, least:most; GPUS: of each.
set -euo pipefail
meeting=$1 config=$2 work=$3

# each start gets a store of its own: torch would find addresses of the start before in a shared one
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
exec torchrun --nnodes "${NODES:-1:4}" --nproc-per-node "${GPUS:-8}" --max-restarts 3 \
  --rdzv-backend c10d --rdzv-id "$(basename "$work")" --rdzv-endpoint "$meeting" \
  -m fastervit_cli train "$config" --work-dir "$work" --resume --seed 0 --launcher pytorch "${@:4}"
