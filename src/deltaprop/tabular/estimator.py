"""The common part of `TabularClassifier` and `TabularRegressor`: from a table to trained members."""

from __future__ import annotations

import copy
import os
import time
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

import numpy as np
from sklearn.base import _fit_context, is_classifier
from sklearn.utils import Tags, check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import _get_feature_names, check_is_fitted

from deltaprop.arguments import check_whole_number
from deltaprop.backends import Backend
from deltaprop.backends.array_types import ArrayLike, Floats, HostArray
from deltaprop.backends.choices import BackendName, LossName
from deltaprop.backends.typed_decorators import keeps_type
from deltaprop.errors import callers_level
from deltaprop.ranks.base import Ranks
from deltaprop.ranks.choice import RanksArgument, find_ranks
from deltaprop.ranks.failures import ending_all_on_failure, failing_together
from deltaprop.reports.plotting import plot_importances
from deltaprop.tabular import MOST_MEMBERS
from deltaprop.tabular.column_roles import ColumnRoles, choose_roles
from deltaprop.tabular.fit_ranks import require_same_fit, silent_unless_first, take_over
from deltaprop.tabular.folds import deal_to_members
from deltaprop.tabular.frames import as_table, is_records
from deltaprop.tabular.importances import HeldOutRows, draw_rows, permutation_importances
from deltaprop.tabular.members import MemberTraining, mean_outputs
from deltaprop.tabular.mixture import HeldOutCost, train_mixture
from deltaprop.tabular.recipe import Recipe, recipe_for
from deltaprop.tabular.row_weights import checked_weights, counted_rows
from deltaprop.tabular.saved import SavedTabular
from deltaprop.tabular.suspects import row_taken_for_names
from deltaprop.tabular.table import Column, Table
from deltaprop.tabular.table_encoding import TableEncoding
from deltaprop.tabular.targets import column_as_given, known_targets, refuse_quantities
from deltaprop.training.agreement import same_generator
from deltaprop.training.callbacks import EpochCallback
from deltaprop.training.exclusive import training_of

if TYPE_CHECKING:
    from deltaprop.stack import NetworkStack

#: What scikit-learn makes a generator from.
RandomState: TypeAlias = int | np.random.RandomState | None
#: The dtype of stored rows, parameters and training.
DTYPE = np.dtype(np.float32)
#: Importances take at most about this share of the time limit, which they come on top of.
IMPORTANCES_SHARE = 0.05


class TabularEstimator(SavedTabular):
    """What the two estimators, which derive from it, have in common."""

    n_features_in_: int
    encoding_: TableEncoding
    stack_: NetworkStack
    member_weights_: Floats
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_members": [Interval(Integral, 1, MOST_MEMBERS, closed="both")],
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left"), None],
        "categorical": ["array-like"],
        "numerical": ["array-like"],
        "drop": ["array-like"],
        "time_limit": [Interval(Real, 0, None, closed="neither"), None],
        "random_state": ["random_state"],
        "backend": [str, Backend],
        "progress": ["boolean"],
        "ranks": [StrOptions({"mpi"}), HasMethods(["Get_rank", "Get_size"]), Ranks, None],
    }
    #: The loss that members are trained by, and what `feature_importances_` are the rise of.
    _loss: ClassVar[LossName]
    _rise: ClassVar[str]
    #: Told after every epoch of all members; one that returns True ends training, and `fit` goes on with best epochs.
    _callbacks: Sequence[EpochCallback] = ()

    n_members: int
    hidden_layer_sizes: int | Sequence[int] | None
    categorical: Sequence[str | int]
    numerical: Sequence[str | int]
    drop: Sequence[str | int]
    time_limit: float | None
    random_state: RandomState
    backend: BackendName | Backend
    progress: bool
    ranks: RanksArgument

    oof_predictions_: HostArray
    _held_out: HeldOutRows

    @keeps_type(_fit_context(prefer_skip_nested_validation=True))
    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Self:
        """Find out what each column is, and train the members.

        Parameters
        ----------
        X : DataFrame, array_like, dict of columns, list of dicts, or path, (m, n_features)
            The table: of pandas, polars or pyarrow, or a file.
        y : array_like, (m,), or str
            The targets, or the name of the column of X that holds them. Rows of a file without a target there are left
            out.
        sample_weight : array_like, (m,), optional
            How much each row counts; by default all count 1. Rows of weight 0 are as if they were not there.

        Returns
        -------
        self : TabularClassifier or TabularRegressor
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter, the table or the targets are not as described, or no column says anything.
        OSError
            If the file cannot be read.
        RuntimeError, BackendError
            If another call is training the estimator; with `ranks`, if another rank fails, or MPI cannot be had.

        Warns
        -----
        UserWarning
            If rows of a file have no target, which it names; or the first line of a file looks like a row.

        Examples
        --------
        >>> import deltaprop as dp
        >>> table = {"rooms": [1, 2, 3, 4] * 15, "side": ["north", "south", None] * 20}
        >>> price = [100 * rooms + 30 * (side == "south") for rooms, side in zip(*table.values(), strict=True)]
        >>> model = dp.TabularRegressor(n_members=4, random_state=0).fit(table, price)
        >>> model.oof_score_ > 0.8, model.feature_names_in_.tolist()
        (True, ['rooms', 'side'])
        """
        with training_of(self):
            fitted = copy.copy(self)  # a fit that fails, and a prediction meanwhile, see only what was fitted before
            fitted.ranks, ranks = self.ranks, find_ranks(self.ranks)
            with ending_all_on_failure(ranks), silent_unless_first(ranks):
                fitted._fit(X, y, sample_weight, ranks)
                take_over(ranks, fitted)
            self.__dict__ = fitted.__dict__
        return self

    def _fit(self, X: Any, y: Any, sample_weight: ArrayLike | None, ranks: Ranks) -> None:
        """Do what `fit` does, on a copy; some attributes are new and some are old if it raises."""
        began = time.perf_counter()
        with failing_together(ranks):
            table, targets, known = self._split_target(X, y)
            named = has_names(X)  # it raises if some are text and some are not
            weights = checked_weights(sample_weight, known, ensure_non_negative=True)
            table, targets, weights = counted_rows(table, targets, weights, weights)
            weights = weights / weights.max()  # so that their sum is finite
            self._find_classes(targets)
            own_weights = self._training_weights(targets, weights)
            least = np.finfo(DTYPE).tiny * own_weights.max()  # a smaller share of the largest would be 0 in training
            own_weights = np.where(own_weights < least, 0.0, own_weights)
            table, targets, weights = counted_rows(table, targets, weights, own_weights)
            own_weights = own_weights[own_weights > 0] / own_weights.max()
            self._roles = choose_roles(table, categorical=self.categorical, numerical=self.numerical, drop=self.drop)
        deadline = None if self.time_limit is None else began + self.time_limit
        self._train(table, targets, weights, own_weights, deadline, ranks)
        self._names, self.n_features_in_ = list(table.columns), len(table.columns)
        self.__dict__.pop("feature_names_in_", None)
        if named:
            self.feature_names_in_: HostArray = np.array(self._names, dtype=object)

    def _split_target(self, X: Any, y: Any) -> tuple[Table, HostArray, HostArray]:
        """Do what `_table_and_target` does, for `fit`; remember the name of the target."""
        rest, targets, known = self._table_and_target(X, y, fits=True)
        self.target_name_: str = y if isinstance(y, str) else str(getattr(y, "name", None) or "target")
        if not rest.columns:
            raise ValueError(f"X: expected a column besides the target {y!r}, got no other")
        if rest.rows < 2:
            raise ValueError("X: expected at least 2 rows, got 1 sample")
        return rest, targets, known

    def _table_and_target(self, X: Any, y: Any, *, fits: bool = False) -> tuple[Table, HostArray, HostArray]:
        """Return a table and its targets, which are no longer a column of it, of the rows that have one.

        The third is which rows of X those are, (m,) of bool; only rows of files may have no target. If `fits`, labels
        that are quantities are refused.
        """
        # Labels in a file stay as they are written: "007" is no 7.
        table = as_table(X, text=[y] if isinstance(y, str) and is_classifier(self) else [])
        if isinstance(y, str):
            if y not in table.columns:
                raise ValueError(f"y: no column {y!r}; the columns are {', '.join(map(repr, table.columns))}")
            known = np.ones(table.rows, bool)
            if isinstance(X, (str, os.PathLike)):
                doubt = row_taken_for_names(table) if fits else ""
                if doubt:
                    warnings.warn(f"{X}: {doubt}", UserWarning, stacklevel=callers_level())
                known = known_targets(table.columns[y], X)
                table = table if known.all() else table.take(np.flatnonzero(known))
            if fits and is_classifier(self):
                refuse_quantities(table.columns[y])
            rest = Table({name: column for name, column in table.columns.items() if name != y}, table.rows)
            # Labels of a table in memory keep their dtype.
            given = column_as_given(X, y) if is_classifier(self) else None
            if given is None:
                return rest, self._target_of_column(table.columns[y]), known
            return rest, self._checked_target(given, table.rows), known
        if np.isscalar(y):
            raise ValueError(f"y: expected targets (m,), or the name of a column as text, got {y!r}")
        return table, self._checked_target(y, table.rows), np.ones(table.rows, bool)

    def _train(
        self,
        table: Table,
        y: HostArray,
        weights: Floats,
        own_weights: Floats,
        deadline: float | None,
        ranks: Ranks,
    ) -> None:
        """Encode the rows, train the members, and predict each row by those that were not trained on it.

        `weights` are the user's; `own_weights` also know the weights of classes.
        """
        rng = same_generator(ranks, check_random_state(self.random_state), self.random_state)
        with failing_together(ranks):
            scaled, order_by = self._fit_target(y, own_weights)
            network_targets = self._network_targets(y)
            columns = sum(role.role in ("number", "date") for role in self._roles)
            recipe = self._recipe(table.rows, columns, network_targets.shape[1])
            sizes = recipe.hidden_layer_sizes if self.hidden_layer_sizes is None else _sizes(self.hidden_layer_sizes)
            encoding = TableEncoding.fit(table, self._roles, scaled, own_weights, recipe.bins)
            if not encoding.columns:
                reasons = "; ".join(f"{role.name}: {role.reason}" for role in self._roles)
                raise ValueError(f"X: expected a column that says something about the rows, got none ({reasons})")
            dealt, dealt_to_others = deal_to_members(order_by, self.n_members, rng)
            rows = encoding.encode_for_training(table, DTYPE, dealt[0][0], scaled, own_weights)
            training = MemberTraining(
                network_targets,
                None if (own_weights == own_weights[0]).all() else own_weights,
                recipe,
                sizes,
                self._loss,
                self.backend,
                self.progress,
                self._callbacks,
                ranks,
            )
        require_same_fit(ranks, self, self._roles, rows, training)
        seeds = rng.randint(2**31 - 1, size=self.n_members).tolist()
        cost = self._held_out_cost(y, own_weights)
        mixture = train_mixture(training, rows, dealt, dealt_to_others, seeds, deadline, cost)
        self.encoding_, self.stack_, self.member_weights_ = encoding, mixture.stack, mixture.member_weights
        targets = self._record(mixture.outputs, mixture.seen, y, weights, own_weights)
        self._held_out = draw_rows(
            rows, targets, own_weights, mixture.held_out, mixture.member_weights, rng.randint(2**31 - 1)
        )
        self._importances = None

    def explain_columns(self) -> ColumnRoles:
        """Say what each column was taken for, and why.

        Returns
        -------
        roles : list of ColumnRole
            Each with ``name``, ``role`` and ``reason``; printed, a table of text.

        Raises
        ------
        NotFittedError
            Before `fit`.

        Examples
        --------
        >>> import deltaprop as dp
        >>> table = {"rooms": [1, 2, 3, 4] * 15, "side": ["north", "south", None] * 20, "always": ["yes"] * 60}
        >>> price = [100 * rooms for rooms in table["rooms"]]
        >>> model = dp.TabularRegressor(n_members=2, random_state=0).fit(table, price)
        >>> print(model.explain_columns())
        ╭────────┬───────────┬─────────────────────────────╮
        │ column │ taken for │ why                         │
        ├────────┼───────────┼─────────────────────────────┤
        │ rooms  │ number    │ numbers from 1 to 4         │
        │ side   │ category  │ text with 2 levels, 20 gaps │
        │ always │ left out  │ the same text in every row  │
        ╰────────┴───────────┴─────────────────────────────╯
        """
        check_is_fitted(self, "stack_")
        return self._roles

    @property
    def feature_importances_(self) -> Floats:
        """How much each column of the table matters, (n_features,), in the order of the table.

        The loss over rows held out rises by this number when the cells of the column are permuted among them. It is the
        log loss for classes, and the mean squared error relative to the variance for quantities. Columns that are left
        out have 0, and so do about all that say nothing; of two columns that say the same, each may seem to matter
        little. They are computed when they are first asked for, from at most 2000 rows that `fit` has kept; after a fit
        with a `time_limit`, from fewer of them if all would take more than a twentieth of it.
        """
        check_is_fitted(self, "stack_")
        if self._importances is None:
            columns = self.encoding_.stored_columns()
            seconds = None if self.time_limit is None else IMPORTANCES_SHARE * self.time_limit
            risen = permutation_importances(self.stack_, self._held_out, columns, self._row_loss, seconds)
            self._importances = np.array([risen.get(name, 0.0) for name in self._names])
        return self._importances

    def plot_importances(self, top: int = 20) -> Any:
        """Draw how much the columns matter, the most important on top; this needs matplotlib.

        Parameters
        ----------
        top : int, default 20
            How many columns are shown, at most.

        Returns
        -------
        matplotlib.figure.Figure
            The picture.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> import deltaprop as dp
        >>> table = {"rooms": [1, 2, 3, 4] * 15, "side": ["north", "south", None] * 20}
        >>> price = [100 * rooms for rooms in table["rooms"]]
        >>> model = dp.TabularRegressor(n_members=2, random_state=0).fit(table, price)
        >>> figure = model.plot_importances()  # needs matplotlib
        >>> figure.savefig("importances.png")
        """
        check_is_fitted(self, "stack_")
        most = check_whole_number("top", top, least=1)
        return plot_importances(self._names, self.feature_importances_, most, self._rise)

    # -- predictions --------------------------------------------------------------------------------------------

    def _outputs(self, X: Any) -> Floats:
        """Compute the mean outputs of the members, (m, s_L), for a table."""
        check_is_fitted(self, "stack_")
        return mean_outputs(self.stack_, self.member_weights_, self.encoding_.encode(self._checked_table(X), DTYPE))

    def _checked_table(self, X: Any) -> Table:
        """Return the columns that the model predicts from, by their names.

        Where the table, or the one of training, has no names, its columns are taken by their places.

        Raises
        ------
        ValueError
            If some are missing. Columns that training left out may be.

        Warns
        -----
        UserWarning
            If there are others than in training, apart from the target.
        """
        table = as_table(X)
        if not (has_names(X) and hasattr(self, "feature_names_in_")):
            return self._by_place(table)
        chosen = table.only(self.encoding_.names, "; where a value is not known, put a gap, None or nan")
        extra = [name for name in table.columns if name not in {*self._names, self.target_name_}]
        if extra:
            verb, noun = ("is", "a column") if len(extra) == 1 else ("are", "columns")
            warnings.warn(
                f"X: {', '.join(map(repr, extra))} {verb} not {noun} of the model, and left out",
                UserWarning,
                stacklevel=callers_level(),
            )
        return chosen

    def _by_place(self, table: Table) -> Table:
        """Give columns the names that they had in training, by their places.

        Raises
        ------
        ValueError
            If there are more or fewer.
        """
        if len(table.columns) != self.n_features_in_:
            raise ValueError(
                f"X has {len(table.columns)} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        return Table(dict(zip(self._names, table.columns.values(), strict=True)), table.rows)

    def _table_and_truth(
        self, X: Any, y: Any, sample_weight: ArrayLike | None
    ) -> tuple[Table, HostArray, HostArray | None]:
        """Return the columns to predict from, what they are to be compared with, (m,), and how much each row counts."""
        check_is_fitted(self, "stack_")
        table, truth, known = self._table_and_target(X, y)
        weights = None if sample_weight is None else checked_weights(sample_weight, known)
        return (table if has_names(X) else self._by_place(table)), truth, weights

    def _recipe(self, rows: int, columns: int, outputs: int) -> Recipe:
        """Choose how the members are trained; comparisons of recipes override it."""
        return recipe_for(rows, columns, outputs)

    # -- what the two do in their own way -----------------------------------------------------------------------

    @abstractmethod
    def _target_of_column(self, column: Column) -> HostArray:
        """Return the targets, (m,), in a column of the table."""

    @abstractmethod
    def _checked_target(self, y: Any, rows: int) -> HostArray:
        """Return the targets, (m,), that a user gave."""

    def _find_classes(self, y: HostArray) -> None:
        """Find the classes, where there are some; raise if there are too few."""

    @abstractmethod
    def _fit_target(self, y: HostArray, weights: Floats) -> tuple[Floats, HostArray]:
        """Return the targets scaled, (m, n), and by what folds are dealt, (m,)."""

    @abstractmethod
    def _network_targets(self, y: HostArray) -> HostArray:
        """Return the targets of the networks, (m, s_L)."""

    def _training_weights(self, y: HostArray, weights: Floats) -> Floats:
        """Return how much each row counts in training, (m,)."""
        return weights

    @abstractmethod
    def _held_out_cost(self, y: HostArray, weights: Floats) -> HeldOutCost:
        """Return the function that computes the mean loss of outputs for some of the rows."""

    @abstractmethod
    def _record(
        self, outputs: Floats, seen: HostArray, y: HostArray, weights: Floats, own_weights: Floats
    ) -> HostArray:
        """Set the attributes that follow from the outputs for rows held out, (m, s_L), of the rows that are `seen`.

        Return the targets of `_row_loss`.
        """

    @abstractmethod
    def _row_loss(self, outputs: Floats, targets: HostArray) -> Floats:
        """Compute the loss of each row, (n,), that `feature_importances_` go by."""

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.string = tags.input_tags.categorical = True
        return tags


def has_names(X: Any) -> bool:
    """Tell whether the columns of what a user passes have names of their own."""
    if isinstance(X, np.ndarray):
        return X.dtype.names is not None
    return isinstance(X, (str, os.PathLike, Mapping, Table)) or is_records(X) or _get_feature_names(X) is not None


def _sizes(hidden_layer_sizes: int | Sequence[int]) -> list[int]:
    sizes = hidden_layer_sizes if isinstance(hidden_layer_sizes, Iterable) else [hidden_layer_sizes]
    return [check_whole_number("hidden_layer_sizes", size, least=1) for size in sizes]
