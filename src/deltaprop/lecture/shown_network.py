"""What a network shows of itself: its layers, every number of one sample's derivation, its weights as images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from deltaprop.arguments import check_whole_number
from deltaprop.backends.array_types import ArrayLike
from deltaprop.backends.device_scope import methods_on_its_device
from deltaprop.derivation.backprop import L2Scaling, Objective, Reduction
from deltaprop.derivation.state import NetworkState
from deltaprop.reports.plotting import plot_weights

if TYPE_CHECKING:  # not at start-up, for those who do without
    from deltaprop.lecture.explanation import Explanation, Format
    from deltaprop.lecture.summary import Summary


@methods_on_its_device
class SummarizedNetwork(NetworkState):
    """A network, or a stack of them, that can tell what it is made of."""

    def summary(self) -> Summary:
        """Print and return a table of the layers: units, activations, shapes and numbers of parameters.

        Returns
        -------
        Summary
            ``str()`` is what was printed; ``parameters`` is the total, and ``layers`` holds the rows. A notebook shows
            it as HTML.

        Examples
        --------
        >>> import deltaprop as dp
        >>> summary = dp.Network([2, 3, 1], backend="numpy").summary()
        Network: 2 → 3 → 1
        ╭──────────┬───────┬────────────┬─────────┬────────┬────────────╮
        │ layer    │ units │ activation │ weights │ biases │ parameters │
        ├──────────┼───────┼────────────┼─────────┼────────┼────────────┤
        │ 1 input  │     2 │          – │       – │      – │          – │
        │ 2 hidden │     3 │    sigmoid │  (3, 2) │   (3,) │          9 │
        │ 3 output │     1 │    sigmoid │  (1, 3) │   (1,) │          4 │
        │ total    │       │            │         │        │         13 │
        ╰──────────┴───────┴────────────┴─────────┴────────┴────────────╯
        memory          104 bytes
        loss            binary_cross_entropy
        init            glorot_uniform
        seed            0
        dtype           float64
        backend         numpy
        epochs trained  0
        >>> summary.parameters
        13
        """
        summary = self._summarize()
        summary.show()
        return summary

    def _summarize(self) -> Summary:
        from deltaprop.lecture.summary import summarize

        return summarize(self)

    def _repr_html_(self) -> str:
        return self._summarize()._repr_html_()


@methods_on_its_device
class ShownNetwork(SummarizedNetwork):
    """What a `Network` can show of itself besides its layers."""

    def explain(
        self,
        x: ArrayLike,
        y: ArrayLike,
        l2: float = 0.0,
        l2_scaling: L2Scaling = "per_sample",
        *,
        reduction: Reduction = "mean",
        learning_rate: float = 0.5,
        steps: int = 20,
        format: Format = "table",
    ) -> Explanation:
        """Print and return every z, a, g′(z), δ, Δ and D of up to 8 samples: a small network's derivation in numbers.

        A notebook shows a page instead, which goes through them step by step, and on to the next training steps;
        ``save_html`` writes it to a file. The network itself is not trained.

        Parameters
        ----------
        x : array_like, (s_1,) or (m, s_1)
            One sample, or up to 8.
        y : array_like, (s_L,) or (m, s_L), or class labels, () or (m,)
            The targets.
        l2 : float, default 0.0
            As for `cost`.
        l2_scaling : {"per_sample", "absolute"}
            As for `cost`.
        reduction : {"mean", "sum"}
            As for `cost`.
        learning_rate : float, default 0.5
            The η of the page's update Θ := Θ − η D, which is plain gradient descent on these samples.
        steps : int, default 20
            How many training steps the page goes on for, 0 … 50. They are computed when a page is made, and the page
            keeps fewer where it would be 300 kB or more, or J overflows.
        format : {"table", "markdown"}
            How it is printed on standard output. A notebook shows "table" as the page, or as tables where a layer has
            more than 8 units or there are more than 12 layers.

        Returns
        -------
        Explanation
            All of it as arrays; ``str()`` is what was printed, ``save_html("page.html")`` writes the page.

        Raises
        ------
        ValueError, TypeError
            As `cost`; also if there are more than 8 samples, a layer is wider than 16, or another argument is not one
            of these.

        See Also
        --------
        deltaprop.check_gradient : Compares the gradient with central differences.

        Examples
        --------
        >>> import deltaprop as dp
        >>> net = dp.Network([2, 1], loss="squared_error", init="zeros")
        >>> net.weights = [[[3.0, 4.0]]]
        >>> seen = net.explain([1.0, 2.0], 10.0)
        Θ^(1) = [b^(1), W^(1)], the bias in column 0
        ╭───────┬───┬───┬───╮
        │ Θ^(1) │ 0 │ 1 │ 2 │
        ├───────┼───┼───┼───┤
        │ 1     │ 0 │ 3 │ 4 │
        ╰───────┴───┴───┴───╯
        <BLANKLINE>
        Layer 1, the input: a^(1) = x
        ╭──────┬───────╮
        │ unit │ a^(1) │
        ├──────┼───────┤
        │ 1    │     1 │
        │ 2    │     2 │
        ╰──────┴───────╯
        <BLANKLINE>
        Layer 2: z^(2) = W^(1) a^(1) + b^(1), a^(2) = g(z^(2)), g = identity
        ╭──────┬───────┬───────┬───────────┬────╮
        │ unit │ z^(2) │ a^(2) │ g′(z^(2)) │  y │
        ├──────┼───────┼───────┼───────────┼────┤
        │ 1    │    11 │    11 │         1 │ 10 │
        ╰──────┴───────┴───────┴───────────┴────╯
        <BLANKLINE>
        J = 0.5, squared_error
        <BLANKLINE>
        δ^(2) = (a^(2) − y) ⊙ g′(z^(2))
        ╭──────┬───────╮
        │ unit │ δ^(2) │
        ├──────┼───────┤
        │ 1    │     1 │
        ╰──────┴───────╯
        <BLANKLINE>
        Δ^(1) = δ^(2) [1; a^(1)]ᵀ, the bias in column 0
        ╭───────┬───┬───┬───╮
        │ Δ^(1) │ 0 │ 1 │ 2 │
        ├───────┼───┼───┼───┤
        │ 1     │ 1 │ 1 │ 2 │
        ╰───────┴───┴───┴───╯
        <BLANKLINE>
        D^(1) = ∂J/∂Θ^(1) = Δ^(1)/m, m = 1
        ╭───────┬───┬───┬───╮
        │ D^(1) │ 0 │ 1 │ 2 │
        ├───────┼───┼───┼───┤
        │ 1     │ 1 │ 1 │ 2 │
        ╰───────┴───┴───┴───╯
        >>> seen.z[0].tolist(), seen.delta[0].tolist(), seen.D[0].tolist()
        ([11.0], [1.0], [[1.0, 1.0, 2.0]])
        """
        from deltaprop.lecture import explanation  # not at start-up, for those who do without

        explained = explanation.explain(
            self,
            x,
            y,
            Objective(l2, l2_scaling, reduction),
            learning_rate=learning_rate,
            steps=steps,
            format=format,
        )
        if format == "markdown":  # which is asked for as text, in notebooks too
            explained.print()
        else:
            explained.show()
        return explained

    def plot_weights(self, l: int = 0, shape: tuple[int, int] | None = None) -> Any:
        """Draw ``weights[l]`` as images, one a unit: what each unit of the layer looks for in its inputs.

        Parameters
        ----------
        l : int, default 0
            Which layer's weights; the first layer sees the data itself.
        shape : (height, width), optional
            Of an image, height · width being the layer's inputs. By default a square, where they make one.

        Returns
        -------
        matplotlib.figure.Figure
            Made by pyplot, which shows it in a notebook; ``.savefig("weights.png")`` writes it.

        Raises
        ------
        ImportError
            If matplotlib is not installed; the message names the extra that brings it.
        ValueError, TypeError
            If there is no such layer or its inputs make no such image.

        Examples
        --------
        >>> import deltaprop as dp
        >>> net = dp.Network([64, 9, 10], loss="categorical_cross_entropy", seed=0)
        >>> figure = net.plot_weights(shape=(8, 8))  # needs matplotlib
        >>> figure.savefig("weights.png")
        """
        l = check_whole_number("l", l, least=0)
        if l >= len(self.weights):
            raise ValueError(f"l: expected a layer 0 … {len(self.weights) - 1}, got {l}")
        W = self.backend.to_numpy(self.weights[l])
        inputs = W.shape[1]
        side = math.isqrt(inputs)
        height, width = (side, side) if shape is None else shape
        if height * width != inputs or height < 1:
            asked = "a square" if shape is None else f"{height} × {width}"
            raise ValueError(f"shape: expected (height, width) of images of {inputs} pixels, got {asked}")
        return plot_weights(W, (height, width))
