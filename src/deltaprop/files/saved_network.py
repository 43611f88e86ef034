"""What networks and stacks write to files and to other programs, and how they are read again."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any, Self, TypeVar

from deltaprop.backends import Backend
from deltaprop.backends.choices import BackendName, LossName, OutputActivation
from deltaprop.backends.device_scope import methods_on_its_device
from deltaprop.derivation.initialization import check_initialization
from deltaprop.derivation.losses import PairOfFunctions, loss_of
from deltaprop.derivation.state import Configuration, NetworkState, StackState
from deltaprop.errors import callers_level
from deltaprop.files.model_file import Tensors, read_model, write_model

if TYPE_CHECKING:  # not at start-up, for those who do without
    from deltaprop.files.file_schema import Common, NetworkContent, StackContent

S = TypeVar("S", bound=NetworkState)


@methods_on_its_device
class SavedNetwork(NetworkState):
    """What a `Network` can do with files and other programs."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write configuration and parameters to a safetensors file, all or nothing.

        Parameters
        ----------
        path : path
            A file that is there is replaced.

        Raises
        ------
        OSError
            If it cannot be written; a file that was there stays whole.
        ValueError
            If the loss is a pair of functions: a file holds no code.

        See Also
        --------
        deltaprop.load : Loads whatever was saved.
        to_onnx : For other programs.

        Examples
        --------
        >>> import deltaprop as dp
        >>> net = dp.Network([2, 3, 1])
        >>> net.save("network.safetensors")
        >>> bool((dp.load("network.safetensors").parameters == net.parameters).all())
        True
        """
        write_model(path, self.file_configuration(), self.file_tensors())

    @classmethod
    def load(cls, path: str | os.PathLike[str], backend: BackendName | Backend = "auto") -> Self:
        """Load the network that `save` wrote to `path`. No code in the file is run: there can be none.

        Parameters
        ----------
        path : path
            The file.
        backend : str or Backend, default "auto"
            As of `Network`.

        Returns
        -------
        Network
            With the configuration and the parameters of the file.

        Raises
        ------
        OSError
            If it cannot be read.
        ValueError
            If it is damaged, no model of ours, or holds something other than a network.
        BackendError
            If the backend cannot be had here.

        Warns
        -----
        UserWarning
            If the file also holds how raw data are prepared, as those of ``deltaprop train`` do: `deltaprop.load`
            applies it.

        See Also
        --------
        deltaprop.load : Loads whatever was saved.

        Examples
        --------
        >>> import deltaprop as dp
        >>> dp.Network([2, 3, 1], hidden_activation="tanh").save("network.safetensors")
        >>> net = dp.Network.load("network.safetensors")
        >>> net.layer_sizes, net.activations
        ((2, 3, 1), ('tanh', 'sigmoid'))
        """
        from deltaprop.files.file_schema import network_content  # not at start-up, for those who do without

        configuration, tensors = read_model(path)
        content = network_content(path, configuration, tensors)
        if content.data is not None:
            warnings.warn(
                f"{path}: the file also holds how raw data are prepared, which Network.load leaves out; deltaprop.load "
                "applies it",
                UserWarning,
                stacklevel=callers_level(),
            )
        return cls.from_file_content(path, content, tensors, backend)

    @classmethod
    def from_torch(
        cls,
        sequential: Any,
        *,
        loss: LossName | PairOfFunctions | None = None,
        backend: BackendName | Backend = "auto",
        seed: int = 0,
    ) -> Self:
        """Make the network that a ``torch.nn.Sequential`` of Linear layers and activations is.

        Parameters
        ----------
        sequential : torch.nn.Sequential
            Linear, Sigmoid, Tanh, ReLU, LeakyReLU(0.01), Softplus, SiLU, GELU, Softmax and Identity; Dropout and
            Flatten are passed over. Where it ends with a Linear, the output activation is the identity.
        loss : str or (cost, gradient), optional
            To train on with; by default the one whose link the output activation is, else "squared_error".
        backend : str or Backend, default "auto"
            As of `Network`.
        seed : int, default 0
            As of `Network`.

        Returns
        -------
        Network
            In the dtype of the Linear layers, whose weights are its weights: a copy.

        Raises
        ------
        ImportError
            If PyTorch is not installed.
        TypeError, ValueError
            If there is a module of another kind, or with other constants than ours.

        See Also
        --------
        to_torch : The other way round.

        Examples
        --------
        >>> import torch
        >>> import deltaprop as dp
        >>> module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
        >>> net = dp.Network.from_torch(module, loss="squared_error")
        >>> net.layer_sizes, net.activations, net.dtype
        ((2, 3, 1), ('relu', 'identity'), dtype('float32'))
        """
        from deltaprop.files import torch_modules  # not at start-up, for those who do without

        configuration, weights, biases = torch_modules.read(sequential)
        if loss is None:
            loss = loss_of(configuration["output_activation"])
        network = cls(**configuration, loss=loss, init="zeros", backend=backend, seed=seed)
        network.weights, network.biases = weights, biases
        return network

    def to_torch(self) -> Any:
        """Make a ``torch.nn.Sequential`` that computes what this network does.

        Returns
        -------
        torch.nn.Sequential
            On the host, in the network's dtype; its parameters are copies.

        Raises
        ------
        ImportError
            If PyTorch is not installed.
        ValueError
            If the output activation is exp; PyTorch has no module for it.

        See Also
        --------
        from_torch : The other way round.

        Examples
        --------
        >>> import torch
        >>> import deltaprop as dp
        >>> net = dp.Network([2, 3, 1], seed=0)
        >>> module, X = net.to_torch(), [[0.0, 1.0]]
        >>> [type(each).__name__ for each in module]
        ['Linear', 'Sigmoid', 'Linear', 'Sigmoid']
        >>> abs(module(torch.tensor(X, dtype=torch.float64)).item() - net.predict(X).item()) < 1e-12
        True
        """
        from deltaprop.files import torch_modules

        return torch_modules.write(self)

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write an ONNX model with input ``X``, (m, s_1), and output ``h``, (m, s_L), in the network's dtype.

        Parameters
        ----------
        path : path
            A file that is there is replaced.

        Raises
        ------
        ImportError
            If onnx is not installed; the message names the extra that brings it.
        OSError
            If it cannot be written; a file that was there stays whole.
        ValueError
            If the loss is a pair of functions: a file holds no code.

        Examples
        --------
        >>> import onnx
        >>> import deltaprop as dp
        >>> dp.Network([2, 3, 1]).to_onnx("network.onnx")
        >>> graph = onnx.load("network.onnx").graph
        >>> [each.name for each in (*graph.input, *graph.output)]
        ['X', 'h']
        """
        from deltaprop.files import onnx_file

        onnx_file.write_onnx(path, self, self.file_configuration())

    @classmethod
    def from_onnx(
        cls,
        path: str | os.PathLike[str],
        backend: BackendName | Backend = "auto",
        *,
        loss: LossName | PairOfFunctions | None = None,
        output_activation: OutputActivation | None = None,
    ) -> Self:
        """Load a network from an ONNX model: from `to_onnx`, or from another program.

        Parameters
        ----------
        path : path
            The file. Where its weights are in a second file, as PyTorch writes them, that is ``PATH.data`` beside it.
        backend : str or Backend, default "auto"
            As of `Network`.
        loss : str or (cost, gradient), optional
            To train on with. By default the one that `to_onnx` wrote; of another program, the one whose link the output
            activation is: "binary_cross_entropy" of sigmoid, "categorical_cross_entropy" of softmax, "poisson" of exp,
            else "squared_error".
        output_activation : str, optional
            The activation to put behind a last layer that has none: "softmax" or "sigmoid" for a model whose loss took
            logits, as those of PyTorch do. `predict` then returns probabilities, where the model returns logits.

        Returns
        -------
        Network
            With the configuration and the parameters of the file, in its dtype.

        Raises
        ------
        ImportError
            If onnx is not installed; the message names the extra that brings it.
        OSError
            If it cannot be read.
        ValueError
            If it is damaged, holds something other than such a network, or has another output activation.
        BackendError
            If the backend cannot be had here.

        Notes
        -----
        Of another program, a model is read that is a chain of layers: Gemm, or MatMul and Add, each with an activation
        that networks here have, be it one operator or several. That is what skl2onnx writes for scikit-learn's
        perceptrons (also behind a StandardScaler), and what PyTorch writes for Linear layers and activations. Numbers
        that scale and shift the columns, as of BatchNormalization, become part of weights and biases. Operators for
        training alone are left out, and so is what makes labels of the outputs.

        Examples
        --------
        >>> import numpy as np
        >>> import onnx  # has to be installed
        >>> import deltaprop as dp
        >>> net = dp.Network([2, 3, 1])
        >>> net.to_onnx("network.onnx")
        >>> same = dp.Network.from_onnx("network.onnx")
        >>> same.layer_sizes, bool(np.allclose(same.parameters, net.parameters))
        ((2, 3, 1), True)
        """
        from deltaprop.files.onnx_import import load_network

        return load_network(cls, path, backend, loss, output_activation)

    def file_configuration(self) -> Configuration:
        """Return what `save` writes besides the tensors.

        Returns
        -------
        dict
            JSON types only.

        Raises
        ------
        ValueError
            If the loss is a pair of functions: a file holds no code.
        """
        _require_name(self.loss)
        return {"network": self.configuration, "epochs_trained": int(self.epochs_trained)}

    def file_tensors(self) -> Tensors:
        """Return the tensors that `save` writes.

        Returns
        -------
        dict of str to array
            The arrays ``weights.0``, ``biases.0`` and so on, on the host.
        """
        return self.by_layer()

    @classmethod
    def from_file_content(
        cls,
        path: str | os.PathLike[str],
        content: NetworkContent,
        tensors: Tensors,
        backend: BackendName | Backend = "auto",
    ) -> Self:
        """Make the network that the content of a file describes; `network_content` has checked it.

        Parameters
        ----------
        path : path
            The file, for messages.
        content : NetworkContent
            Its configuration, and how long the network has been trained.
        tensors : dict of str to array
            Its ``weights.0``, ``biases.0`` and so on.
        backend : str or Backend, default "auto"
            As of `Network`.

        Returns
        -------
        Network
            With this configuration and these parameters.

        Raises
        ------
        ValueError
            If there is no such network, or its loss is a pair of functions; the message begins with `path`.
        """
        network = _made(cls, path, "a network", content.network, backend)
        layers = range(len(network.layer_sizes) - 1)
        network.epochs_trained = content.epochs_trained
        network.weights = [tensors[f"weights.{l}"] for l in layers]
        network.biases = [tensors[f"biases.{l}"] for l in layers]
        return network


@methods_on_its_device
class SavedStack(StackState):
    """What a `NetworkStack` can do with files."""

    _networks: list[Any]  # its members as networks

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write configuration and parameters of every member to a safetensors file, all or nothing.

        Parameters
        ----------
        path : path
            A file that is there is replaced.

        Raises
        ------
        OSError
            If it cannot be written; a file that was there stays whole.
        ValueError
            If the loss is a pair of functions: a file holds no code.

        Examples
        --------
        >>> import deltaprop as dp
        >>> dp.NetworkStack(3, [2, 4, 1]).save("stack.safetensors")
        >>> len(dp.load("stack.safetensors"))
        3
        """
        write_model(path, self.file_configuration(), self.file_tensors())

    def file_configuration(self) -> Configuration:
        """Return what `save` writes besides the tensors.

        Returns
        -------
        dict
            JSON types only.

        Raises
        ------
        ValueError
            If the loss is a pair of functions: a file holds no code.
        """
        _require_name(self.loss)
        trained = [int(network.epochs_trained) for network in self._networks]
        return {"stack": self.configuration, "epochs_trained": trained}

    def file_tensors(self) -> Tensors:
        """Return the tensors that `save` writes.

        Returns
        -------
        dict of str to array
            The array ``parameters``, (K, parameters of a member), on the host.
        """
        return {"parameters": self.backend.to_numpy(self.parameters)}

    @classmethod
    def load(cls, path: str | os.PathLike[str], backend: BackendName | Backend = "auto") -> Self:
        """Load the stack that `save` wrote to `path`. No code in the file is run: there can be none.

        Parameters
        ----------
        path : path
            The file.
        backend : str or Backend, default "auto"
            As of `Network`.

        Returns
        -------
        NetworkStack
            With the configuration and the parameters of the file.

        Raises
        ------
        OSError
            If it cannot be read.
        ValueError
            If it is damaged or no stack of ours.
        BackendError
            If the backend cannot be had here.

        See Also
        --------
        deltaprop.load : Loads whatever was saved.

        Examples
        --------
        >>> import deltaprop as dp
        >>> dp.NetworkStack(3, [2, 4, 1]).save("stack.safetensors")
        >>> dp.NetworkStack.load("stack.safetensors").parameters.shape
        (3, 17)
        """
        from deltaprop.files.file_schema import stack_content  # not at start-up, for those who do without

        configuration, tensors = read_model(path)
        return cls.from_file_content(path, stack_content(path, configuration, tensors), tensors, backend)

    @classmethod
    def from_file_content(
        cls,
        path: str | os.PathLike[str],
        content: StackContent,
        tensors: Tensors,
        backend: BackendName | Backend = "auto",
    ) -> Self:
        """Make the stack that the content of a file describes; `stack_content` has checked it.

        Parameters
        ----------
        path : path
            The file, for messages.
        content : StackContent
            Its configuration, and how long each member has been trained.
        tensors : dict of str to array
            Its ``parameters``, (K, parameters of a member).
        backend : str or Backend, default "auto"
            As of `Network`.

        Returns
        -------
        NetworkStack
            With this configuration and these parameters.

        Raises
        ------
        ValueError
            If there is no such stack; the message begins with `path`.
        """
        stack = _made(cls, path, "a stack", content.stack, backend)
        stack.parameters = tensors["parameters"]
        for network, epochs in zip(stack._networks, content.epochs_trained, strict=True):
            network.init, network.epochs_trained = stack.init, epochs
        return stack


def _require_name(loss: object) -> None:
    """Refuse to write a network whose loss is no name."""
    if not isinstance(loss, str):
        raise ValueError(f"loss: expected the name of a loss, as a file holds no code, got {loss!r}")


def _made(
    cls: type[S], path: str | os.PathLike[str], what: str, described: Common, backend: BackendName | Backend
) -> S:
    """Make the network or stack that a file describes, with parameters of 0.

    Raises
    ------
    ValueError
        If there is no such thing, or its loss is a pair of functions; the message begins with `path`.
    """
    if not isinstance(described.loss, str):
        raise ValueError(f"{path}: its loss is a pair of functions, and a file holds no code")
    arguments: dict[str, Any] = described.arguments | {"init": "zeros"}
    try:
        check_initialization(described.init)
        made = cls(**arguments, backend=backend)
    except ValueError as error:
        raise ValueError(f"{path}: does not describe {what} ({error})") from error
    made.init = described.init
    return made
