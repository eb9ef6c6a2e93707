# shellcheck shell=bash
# What Spillway needs to know about one cluster. Copy it to <cluster>.sh. It is sourced by submit-windows and federation.sh
# where you submit, and by site.sbatch on the cluster's first node. Check it: bash -n slurm/env/<cluster>.sh

# The cluster: for federation.sh, which submits to several. Drop the line where Slurm's default is the one.
export SLURM_CONF=/etc/slurm/slurm.conf

# Software. Open MPI must be 4.1 and know PMIx; MPI and the CUDA libraries must be those that spillway was built with.
# module purge
# module load openmpi/4.1 cuda/12.8
export SPILLWAY=/opt/spillway/bin/spillway

# The allocation: nodes of one window where the plan does not say, ranks (GPUs) on each, and what sbatch needs besides.
export SPILLWAY_NODES=2
export SPILLWAY_RANKS_PER_NODE=8
export SPILLWAY_SBATCH="--partition=curtailed --account=energy --gres=gpu:8 --cpus-per-task=12 --exclusive --mail-type=FAIL"

# The launcher. PMIx joins the ranks; ranks see their own GPU by their number on the node.
export SPILLWAY_LAUNCH="srun --mpi=pmix --cpu-bind=cores"
export SPILLWAY_TRAIN="--device cuda --federation.interface ib0"
