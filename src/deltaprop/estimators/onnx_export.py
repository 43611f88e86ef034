"""`OnnxExport`: fitted estimators as ONNX models."""

from __future__ import annotations

import os
from typing import Literal

from sklearn.utils.validation import check_is_fitted


class OnnxExport:
    """Gives an estimator the method `to_onnx`."""

    def to_onnx(self, path: str | os.PathLike[str], *, dtype: Literal["float32", "float64"] | None = None) -> None:
        """Write the fitted estimator as an ONNX model, with the inputs and outputs of scikit-learn's converters.

        Parameters
        ----------
        path : path
            A file that is there is replaced.
        dtype : {"float32", "float64"} or None, default None
            The dtype of the input, of all arithmetic and of the output; by default the dtype of the network. Fitted to
            float64 and written as "float32", a model is half as large and equal to about six digits.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ImportError
            If onnx is not installed; the message names the extra that brings it.
        OSError
            If it cannot be written; a file that was there stays whole.
        ValueError
            If `dtype` is another one, a parameter is too large for it, or ONNX has no labels of this kind.

        Notes
        -----
        The input is ``X``, (m, n_features). The outputs of a classifier are ``label``, (m,), and ``probabilities``,
        (m, n_classes); of multilabel targets, both are (m, n_labels). Labels are text or int64; truth values are 0
        and 1. The output of a regressor is ``variable``, (m, n_outputs). An ensemble has the same outputs.

        `Network.from_onnx` reads the network in such a file, and ``deltaprop.estimators.onnx_converters.register()``
        lets skl2onnx convert pipelines that hold such an estimator.

        Examples
        --------
        >>> import onnx
        >>> import deltaprop as dp
        >>> X, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
        >>> clf = dp.MLPClassifier((8,), activation="tanh", solver="lbfgs", random_state=3).fit(X, y)
        >>> clf.to_onnx("xor.onnx", dtype="float32")
        >>> [output.name for output in onnx.load("xor.onnx").graph.output]
        ['label', 'probabilities']
        """
        check_is_fitted(self)
        from deltaprop.estimators.onnx_model import write_estimator  # not at start-up, for those who do without

        write_estimator(path, self, dtype)
