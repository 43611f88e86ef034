"""The number of this process among those that a launcher has started on the same machine: each takes another device."""

from __future__ import annotations

import os

#: Where launchers write it: Open MPI, MPICH and Intel MPI, MVAPICH2, srun.
VARIABLES = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "MV2_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID")


def local_rank() -> int:
    """Return the number, from 0; also 0 where no launcher says it."""
    for variable in VARIABLES:
        value = os.environ.get(variable, "")
        if value.isdecimal():
            return int(value)
    return 0
