"""Outputs of each member for rows of its own, of all members in one call where the compiled library knows them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deltaprop.backends.array_types import HostArray
from deltaprop.epochs.compiled_answers import CompiledAnswers
from deltaprop.inputs.encoded_rows import EncodedRows
from deltaprop.stack import NetworkStack


def outputs_of_own_rows(stack: NetworkStack, rows: Sequence[EncodedRows]) -> list[HostArray]:
    """Compute the outputs of each member for its own rows.

    Parameters
    ----------
    stack : NetworkStack
        The members.
    rows : sequence of EncodedRows, (n, s_1) each
        For each member, of one encoding; there may be none for some.

    Returns
    -------
    list of array, (n, s_L) each
        On the host.
    """
    outputs: list[HostArray] = [np.empty((len(own), stack.layer_sizes[-1]), stack.dtype) for own in rows]
    which = np.flatnonzero([len(own) > 0 for own in rows])
    answers = CompiledAnswers.find(stack, rows) if len(which) else None
    if answers is not None:
        answers(which, [outputs[k] for k in which.tolist()])
        return outputs
    for k in which.tolist():
        outputs[k][...] = stack[k].predict(rows[k])  # on the host, as encoded rows are
    return outputs
