"""`load`: whatever was saved, from its file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from deltaprop.backends import Backend
from deltaprop.backends.choices import BackendName
from deltaprop.derivation.state import Configuration
from deltaprop.files.file_kinds import kind_of
from deltaprop.files.file_schema import network_content, stack_content
from deltaprop.files.model_file import Tensors, read_model
from deltaprop.network import Network
from deltaprop.stack import NetworkStack
from deltaprop.tabular.trained import Trained

if TYPE_CHECKING:
    from deltaprop.tabular.classifier import TabularClassifier
    from deltaprop.tabular.regressor import TabularRegressor


def load(path: str | os.PathLike[str], backend: BackendName | Backend = "auto") -> Any:
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
    Network, NetworkStack, TabularClassifier, TabularRegressor or Trained
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

    See Also
    --------
    deltaprop.Network.save : Writes a network.
    deltaprop.NetworkStack.save : Writes a stack.
    deltaprop.TabularClassifier.save : Writes a fitted estimator of a table.

    Examples
    --------
    >>> import deltaprop as dp
    >>> dp.Network([2, 3, 1]).save("network.safetensors")
    >>> dp.load("network.safetensors").layer_sizes
    (2, 3, 1)
    """
    configuration, tensors = read_model(path)
    kind = kind_of(path, configuration)
    if kind == "tabular":
        return load_tabular(path, configuration, tensors, backend)
    if kind == "stack":
        return NetworkStack.from_file_content(path, stack_content(path, configuration, tensors), tensors, backend)
    content = network_content(path, configuration, tensors)
    if content.data is not None:
        return Trained.from_file_content(path, content, tensors, backend)
    return Network.from_file_content(path, content, tensors, backend)


def load_tabular(
    path: str | os.PathLike[str], configuration: Configuration, tensors: Tensors, backend: BackendName | Backend
) -> TabularClassifier | TabularRegressor:
    """Make the tabular estimator that the content of a file describes.

    Parameters
    ----------
    path : path
        The file, for messages.
    configuration : dict
        As `read_model` returns it.
    tensors : dict of str to array
        As `read_model` returns them.
    backend : str or Backend
        Where to compute, as of `Network`.

    Returns
    -------
    TabularClassifier or TabularRegressor
        Fitted.

    Raises
    ------
    ValueError
        If the content is wrong; the message begins with `path`.
    """
    from deltaprop.tabular.classifier import TabularClassifier  # scikit-learn is not needed for the other kinds
    from deltaprop.tabular.regressor import TabularRegressor
    from deltaprop.tabular.saved_schema import Classes, tabular_content

    content = tabular_content(path, configuration, tensors)
    estimator = TabularClassifier if isinstance(content.tabular.target, Classes) else TabularRegressor
    return estimator.from_file_content(path, content, tensors, backend)


def load_network(path: str | os.PathLike[str], backend: BackendName | Backend = "auto") -> Network:
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
