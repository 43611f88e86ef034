"""What started this process: the programs that start many, such as mpiexec, tell each how many there are."""

from __future__ import annotations

import os
from typing import NamedTuple

from deltaprop.errors import BackendError

#: The variable that a launcher sets to the number of processes, and the launcher's name.
VARIABLES = {
    "OMPI_COMM_WORLD_SIZE": "mpiexec of Open MPI",
    "PMI_SIZE": "mpiexec of MPICH or Intel MPI",
    "MV2_COMM_WORLD_SIZE": "mpirun of MVAPICH2",
    "SLURM_STEP_NUM_TASKS": "srun",
}
#: The variable that it sets to the number of each process.
NUMBERS = {
    "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK",
    "PMI_SIZE": "PMI_RANK",
    "MV2_COMM_WORLD_SIZE": "MV2_COMM_WORLD_RANK",
    "SLURM_STEP_NUM_TASKS": "SLURM_PROCID",
}


class LauncherError(BackendError):
    """The processes were started by a launcher of another MPI library; every one of them finds that out."""


class Launched(NamedTuple):
    """How many processes a launcher has started.

    Parameters
    ----------
    size : int
    variable : str
        The variable of the environment that says so.
    launcher : str
    is_first : bool, default True
        Whether this process is the first of them, or its number is not known.
    """

    size: int
    variable: str
    launcher: str
    is_first: bool = True


def launched() -> Launched | None:
    """Return the launcher that started this process as one of several; None where it runs by itself."""
    for variable, launcher in VARIABLES.items():
        value = os.environ.get(variable, "")
        if value.isdecimal() and int(value) > 1:
            return Launched(int(value), variable, launcher, os.environ.get(NUMBERS[variable], "0") == "0")
    return None
