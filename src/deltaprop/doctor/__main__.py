"""Runs one stage, for `check_backend`: ``python -m deltaprop.doctor BACKEND STAGE [--emulated]``."""

from __future__ import annotations

import sys
import traceback

from deltaprop.backends import get_backend, split_name
from deltaprop.backends.compiled_files import compiled_here
from deltaprop.doctor.device import is_exclusive, require_cuda
from deltaprop.doctor.emulated import emulated_backend
from deltaprop.doctor.process import end_with_parent, events_to_stdout
from deltaprop.doctor.record import NotTriedError, Record, hearing_warnings
from deltaprop.doctor.stages import trials_of


def main(name: str, stage: str, *, emulated: bool) -> None:
    """Run the stage and write its events to standard output."""
    end_with_parent()
    tell = events_to_stdout()
    kind, _ = split_name(name)
    trial = next(trial for trial in trials_of(kind) if trial.name == stage)
    try:
        if kind == "cupy" and not emulated:
            require_cuda()
            if is_exclusive():
                tell(("exclusive", None))
        # Where there are several devices, every network must be on the one under test.
        backend = (emulated_backend() if emulated else get_backend(name)).on_device(None)
        record = Record(tell)
        with backend.scope(), hearing_warnings(record):
            trial.run(backend, record)
    except NotTriedError as error:
        tell((error.kind, str(error)))
    except Exception as error:  # noqa: BLE001  (any error is a result: the stage has failed)
        traceback.print_exc()
        tell(("raised", f"{type(error).__name__}: {error}"))
    if not emulated:
        tell(("compiled", [[name, seconds] for name, seconds in compiled_here]))
    tell(("done", None))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], emulated="--emulated" in sys.argv[3:])
