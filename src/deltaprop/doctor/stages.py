"""Lists the stages of each backend in their order, and how long each may take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deltaprop.backends.cuda.shared_memory import CLUSTERS
from deltaprop.doctor import device, epochs, host_epochs, memory
from deltaprop.doctor.operations import operations
from deltaprop.doctor.record import Record
from deltaprop.doctor.small_kernels import small_kernels


@dataclass(frozen=True)
class Trial:
    """A stage that can be run.

    Attributes
    ----------
    name : str
    run : callable
        It is called with the backend and a `Record`; an exception is a failure.
    usual : float
        Seconds after which it counts as slow: a process takes some 3 s to start on a device, more beside others.
    limit : float
        Seconds after which it is stopped and counts as failed, compilation included.
    on_device : bool
        Whether it needs a real device, not the emulated one.
    alone : bool
        Whether nothing may run beside it: others need its results, or would use the memory that it counts.
    """

    name: str
    run: Callable[[Any, Record], None]
    usual: float = 20.0
    limit: float = 120.0
    on_device: bool = False
    alone: bool = False


CUDA = (
    Trial("device", device.device, on_device=True, alone=True),
    # NVRTC takes a minute or two for all of them.
    Trial("kernel files", device.kernel_files, limit=900.0, on_device=True, alone=True),
    Trial("operations", operations),
    Trial("small kernels", small_kernels),
    *(
        Trial(f"resident, {blocks} block{'' if blocks == 1 else 's'}", epochs.resident_on(blocks), limit=300.0)
        for blocks in CLUSTERS
    ),
    Trial("captured epochs", epochs.captured),
    Trial("precision tf32", epochs.in_precision("tf32")),
    Trial("precision bf16", epochs.in_precision("bf16")),
    Trial("precision fp16", epochs.in_precision("fp16")),
    Trial("streamed epochs", epochs.streamed),
    Trial("single steps", epochs.steps),
    Trial("second stream", epochs.second_stream),
    Trial("out of memory", memory.out_of_memory, alone=True),
    Trial(f"{memory.FITS} fits", memory.flat_memory, alone=True),
)
CPU = (
    # The compiler takes half a minute at most.
    Trial("compiled epochs", host_epochs.compiled, limit=300.0),
    Trial("recorded epochs", host_epochs.recorded),
    Trial("single steps", host_epochs.steps),
    Trial(f"{memory.FITS} fits", memory.flat_memory, alone=True),
)


def trials_of(kind: str, *, emulated: bool = False) -> tuple[Trial, ...]:
    """Return the stages of a backend: "cupy", "numpy" or "reference", which is NumPy step by step."""
    if kind == "cupy":
        return tuple(trial for trial in CUDA if not (emulated and trial.on_device))
    return tuple(trial for trial in CPU if kind == "numpy" or trial.run is host_epochs.steps)


def with_stages(only: str) -> tuple[str, ...]:
    """Return which of "cupy" and "numpy" have a stage with this text in its name; both, if neither has."""
    names = ("cupy", "numpy")
    return tuple(name for name in names if any(only in trial.name for trial in trials_of(name))) or names
