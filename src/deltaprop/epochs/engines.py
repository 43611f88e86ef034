"""Which ways of training there are on which backend: the tables from which trainers choose.

On a backend that no table knows, one network is trained step by step, and several one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

from deltaprop.backends import Backend
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.members import MembersEpoch, MembersTask
from deltaprop.epochs.task import Task, WholeEpoch

T = TypeVar("T")
Ways: TypeAlias = tuple[type[WholeEpoch], ...]
WaysOfMembers: TypeAlias = tuple[type[MembersEpoch], ...]

# Classes are imported when a network is trained on their backend: not by those who only predict, not without a device.


def _on_numpy() -> Ways:
    from deltaprop.epochs.compiled import CompiledEpoch
    from deltaprop.epochs.recorded import RecordedEpoch

    return CompiledEpoch, RecordedEpoch


def _shared_on_numpy() -> Ways:
    from deltaprop.epochs.compiled_shared import CompiledSharedEpoch

    return (CompiledSharedEpoch,)


def _on_cuda() -> Ways:
    from deltaprop.epochs.graph import GraphEpoch
    from deltaprop.epochs.resident import ResidentEpoch

    return ResidentEpoch, GraphEpoch


def _shared_on_cuda() -> Ways:
    from deltaprop.epochs.graph_shared import GraphSharedEpoch

    return (GraphSharedEpoch,)


def _members_on_numpy() -> WaysOfMembers:
    from deltaprop.epochs.compiled_members import CompiledMembers
    from deltaprop.epochs.stepped_members import SteppedMembers

    return CompiledMembers, SteppedMembers


def _members_on_cuda() -> WaysOfMembers:
    from deltaprop.epochs.resident_members import ResidentMembers

    return (ResidentMembers,)


#: By the name of a backend's class, its ways of training one network, the fastest first; subclasses have them too.
EPOCHS: dict[str, Callable[[], Ways]] = {"numpy": _on_numpy, "cupy": _on_cuda}
#: The same where several ranks share each minibatch.
SHARED_EPOCHS: dict[str, Callable[[], Ways]] = {"numpy": _shared_on_numpy, "cupy": _shared_on_cuda}
#: The same for the members of a stack together.
MEMBERS_EPOCHS: dict[str, Callable[[], WaysOfMembers]] = {"numpy": _members_on_numpy, "cupy": _members_on_cuda}


def find_epoch(task: Task) -> WholeEpoch | None:
    """Make the fastest way of doing `task` in few calls; None if there is none on its backend."""
    for way in _ways_of(task):
        epoch = way.find(task)
        if epoch is not None:
            return epoch
    return None


def obstacles(task: Task, taken: WholeEpoch | None) -> list[tuple[str, str]]:
    """Return the label of each way that is faster than the one `taken`, and why it is not taken; for the log."""
    found = []
    for way in _ways_of(task):
        if isinstance(taken, way):
            break
        found.append((way.label, way.obstacle(task) or "this backend cannot do it"))
    return found


def find_members_epoch(task: MembersTask, networks: Sequence[NetworkState] | None) -> MembersEpoch | None:
    """Make the fastest way of training all members together; None if there is none on their backend.

    `networks` are the members as networks, if they are at hand. The inputs of `EncodedRows` are formed once a way needs
    them all.
    """
    for way in _ways(MEMBERS_EPOCHS, task.network.backend):
        if not way.takes_encoded_rows:
            task.form_inputs()
        epoch = way.find(task, networks)
        if epoch is not None:
            return epoch
    return None


def _ways_of(task: Task) -> Ways:
    return _ways(EPOCHS if task.shares is None else SHARED_EPOCHS, task.network.backend)


def _ways(table: dict[str, Callable[[], tuple[T, ...]]], backend: Backend) -> tuple[T, ...]:
    """Look a backend up by its name, or by the name of the class that it derives from."""
    names = (vars(kind).get("name") for kind in type(backend).__mro__)
    found = next((table[name] for name in names if name in table), None)
    return found() if found is not None else ()
