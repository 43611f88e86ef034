"""`register`: skl2onnx converts our estimators too, by themselves and in pipelines with whatever stands before them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from deltaprop.backends.array_types import DType
from deltaprop.estimators.classifier import MLPClassifier
from deltaprop.estimators.ensemble import EnsembleClassifier, EnsembleRegressor
from deltaprop.estimators.halving import HalvingSweepCV
from deltaprop.estimators.onnx_model import add_outputs, network_of, one_of
from deltaprop.estimators.regressor import MLPRegressor
from deltaprop.estimators.sweep import SweepCV
from deltaprop.files.onnx_file import Graph

#: Since this version, the axes of ReduceSum are an input.
LEAST_OPSET = 13
#: What scikit-learn's own classifiers offer.
OPTIONS: dict[str, list[Any]] = {
    "zipmap": [True, False, "columns"],
    "output_class_labels": [False, True],
    "nocl": [True, False],
}


def register() -> None:
    """Tell skl2onnx how to convert our estimators; another call changes nothing.

    Afterwards, ``skl2onnx.to_onnx(model, X[:1])`` takes `MLPClassifier`, `MLPRegressor`, `EnsembleClassifier` and
    `EnsembleRegressor`, by themselves, as steps of pipelines and inside other estimators, and `SweepCV` and
    `HalvingSweepCV` that were refitted. Options such as ``zipmap`` are those of scikit-learn's classifiers, and so are
    the names of outputs: ``label`` and ``probabilities``, or ``variable``.

    Raises
    ------
    ImportError
        If skl2onnx is not installed.

    See Also
    --------
    deltaprop.MLPClassifier.to_onnx : Writes an estimator by itself, without skl2onnx.

    Examples
    --------
    >>> import numpy as np
    >>> import skl2onnx
    >>> import deltaprop as dp
    >>> from deltaprop.estimators import onnx_converters
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = load_iris(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), dp.MLPClassifier(solver="lbfgs", random_state=0)).fit(X, y)
    >>> onnx_converters.register()
    >>> written = skl2onnx.to_onnx(model, X[:1].astype(np.float32), options={"zipmap": False})
    >>> [output.name for output in written.graph.output]
    ['label', 'probabilities']
    """
    try:
        import skl2onnx
        from skl2onnx._parse import _parse_sklearn_grid_search_cv
        from skl2onnx.operator_converters.grid_search_cv import convert_sklearn_grid_search_cv
        from skl2onnx.shape_calculators.grid_search_cv import convert_sklearn_grid_search_cv as shapes_of_search
    except ImportError as error:
        raise ImportError(f"this needs skl2onnx ({error}); pip install skl2onnx") from error
    for kind, shapes, options in (
        (MLPClassifier, _shapes_of_classifier, OPTIONS),
        (EnsembleClassifier, _shapes_of_classifier, OPTIONS),
        (MLPRegressor, _shapes_of_regressor, None),
        (EnsembleRegressor, _shapes_of_regressor, None),
    ):
        skl2onnx.update_registered_converter(kind, f"Deltaprop{kind.__name__}", shapes, _convert, options=options)
    for search in (SweepCV, HalvingSweepCV):
        skl2onnx.update_registered_converter(
            search,
            "SklearnGridSearchCV",
            shapes_of_search,
            convert_sklearn_grid_search_cv,
            parser=_parse_sklearn_grid_search_cv,
            options="passthrough",
        )


class ContainerGraph(Graph):
    """Adds nodes and constants to the model that skl2onnx is making."""

    def __init__(self, scope: Any, container: Any, dtype: DType) -> None:
        super().__init__(dtype)
        self.scope, self.container = scope, container
        #: Names of outputs here, and in that model.
        self.names: dict[str, str] = {}

    def node(self, operator: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        """Add an operator on `inputs` and return the name of its output."""
        name = self.names[output] if output else self.scope.get_unique_variable_name("value")
        own = self.scope.get_unique_operator_name(operator)
        self.container.add_node(operator, inputs, [name], name=own, **attributes)
        return name

    def constant(self, name: str, value: Any, dtype: DTypeLike | None = None) -> str:
        """Add a constant and return its name."""
        name, array = self.scope.get_unique_variable_name(name), np.asarray(value, dtype or self.dtype, order="C")
        if array.dtype == object:
            text = [label.encode() for label in array.ravel()]
            self.container.add_initializer(name, self.onnx.TensorProto.STRING, array.shape, text)
        else:
            self.container.add_initializer(name, None, None, self.onnx.numpy_helper.from_array(array, name))
        return name


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Add what an estimator predicts to the model that skl2onnx is making."""
    from skl2onnx.common.data_types import DoubleTensorType
    from skl2onnx.common.utils_classifier import get_label_classes

    estimator, (given,) = operator.raw_operator, operator.inputs
    if container.target_opset < LEAST_OPSET:
        raise ValueError(f"target_opset: expected at least {LEAST_OPSET}, got {container.target_opset}")
    double = isinstance(given.type, DoubleTensorType)
    graph = ContainerGraph(scope, container, np.dtype(np.float64 if double else np.float32))
    classes = get_label_classes(scope, estimator) if hasattr(estimator, "classes_") else None
    names = ("variable",) if classes is None else ("label", "probabilities")
    graph.names = dict(zip(names, (output.full_name for output in operator.outputs), strict=True))
    add_outputs(graph, estimator, graph.cast(given.full_name, graph.dtype), classes)


def _shapes_of_classifier(operator: Any) -> None:
    """Say what ``label`` and ``probabilities`` are."""
    from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes

    calculate_linear_classifier_output_shapes(operator)
    estimator, rows = operator.raw_operator, operator.inputs[0].get_first_dimension()
    columns = max(2, network_of(estimator).layer_sizes[-1])
    operator.outputs[1].type.shape = [rows, columns]
    if one_of(estimator)._label_binarizer.y_type_.startswith("multilabel"):
        operator.outputs[0].type.shape = [rows, columns]


def _shapes_of_regressor(operator: Any) -> None:
    """Say what ``variable`` is."""
    from skl2onnx.common.shape_calculator import calculate_linear_regressor_output_shapes

    calculate_linear_regressor_output_shapes(operator)
    rows = operator.inputs[0].get_first_dimension()
    operator.outputs[0].type.shape = [rows, network_of(operator.raw_operator).layer_sizes[-1]]
