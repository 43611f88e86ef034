"""`load`: whatever was saved, from its file."""

from __future__ import annotations

import os
from typing import Any

from deltaprop.backends import Backend
from deltaprop.files.file_kinds import kind_of
from deltaprop.files.file_schema import network_content, stack_content
from deltaprop.files.model_file import read_model
from deltaprop.network import Network
from deltaprop.stack import NetworkStack
from deltaprop.tabular.trained import Trained


def load(path: str | os.PathLike[str], backend: str | Backend = "auto") -> Any:
    """Load whatever was saved to a file: a network, a stack, a tabular estimator, or a model of the command line.

    No code in the file is run: there can be none.

    Parameters
    ----------
    path : path
        The file.
    backend : str or Backend, default "auto"
        Where to compute, as of `Network`.

    Returns
    -------
    Network, NetworkStack or Trained
        What the file holds. A single network that ``deltaprop train`` wrote comes as `Trained`, which scales raw
        columns and names classes; its attribute ``network`` is the network. A checkpoint comes as the network.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is damaged, or no model of ours.
    BackendError
        If the backend cannot be had here.

    Examples
    --------
    >>> import deltaprop as dp
    >>> dp.Network([2, 3, 1]).save("network.safetensors")  # doctest: +SKIP
    >>> dp.load("network.safetensors").layer_sizes  # doctest: +SKIP
    (2, 3, 1)
    """
    configuration, tensors = read_model(path)
    if kind_of(path, configuration) == "stack":
        return NetworkStack.from_file_content(path, stack_content(path, configuration, tensors), tensors, backend)
    content = network_content(path, configuration, tensors)
    if content.data is not None:
        return Trained.from_file_content(path, content, tensors, backend)
    return Network.from_file_content(path, content, tensors, backend)


def load_network(path: str | os.PathLike[str], backend: str | Backend = "auto") -> Network:
    """Load the network in a file, for those who need no preparation of its data, such as a plot of its weights.

    Parameters
    ----------
    path : path
        A file with a network, whether or not it also holds how raw data are prepared.
    backend : str or Backend, default "auto"
        As of `Network`.

    Returns
    -------
    Network
        The network.

    Raises
    ------
    OSError, ValueError, BackendError
        As of `load`, and for a file with something else.
    """
    configuration, tensors = read_model(path)
    return Network.from_file_content(path, network_content(path, configuration, tensors), tensors, backend)
