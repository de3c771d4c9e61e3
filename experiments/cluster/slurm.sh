#!/usr/bin/env bash
# One run on Slurm: sbatch experiments/cluster/slurm.sh RECIPE OUT
# Ray starts on all nodes of the allocation, runs the recipe on the first, and ends. The same command
# resumes an interrupted run. OUT is a folder that every node mounts, or a URL.
# Checked offline by tests/cluster/test_cluster_files.py (bash -n, and shellcheck where installed);
# no test starts it on Slurm.
#
# Change before the first use: the size of the allocation, and how the environment is activated.
#SBATCH --job-name=raykd
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=1
#SBATCH --time=24:00:00
set -euo pipefail

recipe=${1:?usage: sbatch slurm.sh RECIPE OUT}
out=${2:?usage: sbatch slurm.sh RECIPE OUT}

# CHANGE: an environment with raykd on every node.
# shellcheck source=/dev/null
source "${RAYKD_ENVIRONMENT:-$HOME/raykd/.venv}/bin/activate"

# Other users reach the ports of the nodes: Ray requires this token of everyone.
umask 077
RAY_AUTH_TOKEN=$(python -c "import secrets; print(secrets.token_hex(32))")
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
# Seconds that the first node waits for the others.
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300

nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head_node=${nodes%%$'\n'*}
head_address=$(srun --nodes=1 --ntasks=1 --nodelist="$head_node" hostname --ip-address)
# Jobs of other users may use 6379 on the same node.
port=$((20000 + SLURM_JOB_ID % 20000))

srun --nodes="$SLURM_NNODES" --ntasks="$SLURM_NNODES" \
    ray symmetric-run \
    --address "${head_address%% *}:$port" \
    --min-nodes "$SLURM_NNODES" \
    --num-cpus="$SLURM_CPUS_PER_TASK" \
    --num-gpus="${SLURM_GPUS_ON_NODE:-0}" \
    -- python -m raykd run "$recipe" --out "$out"
