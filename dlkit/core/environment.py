"""Rank and number of processes, as torchrun or SLURM set them. Loads no torch."""

import os


def rank() -> int:
    """The number of this process among those that torchrun or srun started."""
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0)


def world_size() -> int:
    """How many processes torchrun or srun started.

    SLURM_NTASKS is set in a batch script too, where only one process runs.
    """
    return int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_STEP_NUM_TASKS") or 1)


def is_main_process() -> bool:
    """Whether this process is the one that speaks, when torchrun or srun started several."""
    return rank() == 0
