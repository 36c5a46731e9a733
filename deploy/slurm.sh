#!/usr/bin/env bash
# Train as a SLURM job that continues after preemption and time limits:
#   sbatch deploy/slurm.sh CONFIG WORK_DIR --amp
#SBATCH --job-name=fastervit
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gres=gpu:8
#SBATCH --cpus-per-task=64
#SBATCH --requeue
#SBATCH --open-mode=append
# SIGTERM two minutes before the limit, so that a checkpoint is saved
#SBATCH --signal=TERM@120
set -euo pipefail
config=$1 work=$2

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
srun torchrun --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node 8 --max-restarts 3 \
  --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$first:29400" \
  -m fastervit_cli train "$config" --work-dir "$work" --resume --seed 0 --launcher pytorch "${@:3}"
