"""Categories as inputs: one a frequent level, and means of the target for the others; values by hand."""

from dataclasses import replace

import numpy as np
import pytest

from deltaprop.inputs.encoded_rows import EncodedRows, InputEncoding
from deltaprop.tabular.category_encoding import MOST_LEVELS, PRIOR_ROWS, CategoryEncoding
from deltaprop.tabular.frames import as_column
from deltaprop.tabular.table import Column


def text(cells: list[str | None]) -> Column:
    return as_column(cells, "c")


def fitted(cells: list[str | None], targets: np.ndarray | None = None) -> CategoryEncoding:
    y = np.zeros((len(cells), 1)) if targets is None else targets
    encoding = CategoryEncoding.fit(text(cells), y, np.ones(len(cells)))
    assert encoding is not None
    return encoding


def inputs_of(encoding: CategoryEncoding, cells: list[str | None], means: np.ndarray | None = None) -> np.ndarray:
    stored = np.empty((len(cells), encoding.columns))
    encoding.store(encoding.places(text(cells)), encoding.means if means is None else means, stored)
    return EncodedRows(stored, InputEncoding(encoding.columns, encoding.pieces(0)))[:]


def many(rare: int = 10) -> list[str | None]:
    """Make cells of MOST_LEVELS levels that are there twice, and of others that are there once."""
    frequent = [f"f{k:03}" for k in range(MOST_LEVELS)]
    return [*frequent, *frequent, *(f"r{k:03}" for k in range(rare))]


def test_one_input_a_level_and_one_for_gaps() -> None:
    encoding = fitted(["b", "a", None, "b"])
    assert (encoding.levels, encoding.has_gaps, encoding.rare, encoding.columns) == (["a", "b"], True, [], 1)
    np.testing.assert_array_equal(
        inputs_of(encoding, ["a", "b", None, "new"]), [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    )


def test_a_gap_that_training_has_not_seen_is_a_new_level() -> None:
    np.testing.assert_array_equal(inputs_of(fitted(["a", "b"]), [None, "b"]), [[0, 0], [0, 1]])


@pytest.mark.parametrize("cells", [["a", "a"], [None, None]])
def test_one_level_says_nothing(cells: list[str | None]) -> None:
    assert CategoryEncoding.fit(text(cells), np.zeros((2, 1)), np.ones(2)) is None


def test_one_level_and_gaps_say_something() -> None:
    np.testing.assert_array_equal(inputs_of(fitted(["a", None]), ["a", None]), [[1, 0], [0, 1]])


def test_levels_are_found_by_what_is_written() -> None:
    """New rows may come as numbers, or with levels in another order."""
    encoding = fitted(["2", "10", "2"])
    assert encoding.levels == ["10", "2"]
    stored = np.empty((2, 1))
    encoding.store(encoding.places(as_column(np.array([2.0, 10.0]), "c")), encoding.means, stored)
    assert stored[:, 0].tolist() == [1, 0]


@pytest.mark.parametrize("truth", [np.array([True, False]), np.array([1, 0]), ["true", "False"], ["1", "0"]])
def test_truth_values_are_alike_as_numbers(truth: np.ndarray | list[str]) -> None:
    encoding = CategoryEncoding.fit(as_column(np.array([False, True]), "c"), np.zeros((2, 1)), np.ones(2))
    assert encoding is not None
    assert encoding.places(as_column(truth, "c")).tolist() == [encoding.levels.index(t) for t in ("True", "False")]
    assert fitted(["True", "False", "1"]).places(text(["1", "0"])).tolist() == [0, -1]  # here 1 is a level of its own


def test_decimal_commas_are_read_alike_beside_text_and_without() -> None:
    encoding = fitted(["S", "1,5", "2,5"])
    assert encoding.levels == ["1,5", "2,5", "S"]
    for column in (Column("c", "number", np.array([2.5]), decimal=","), replace(text(["2,5"]), decimal=",")):
        assert encoding.places(column).tolist() == [1]
    assert encoding.places(Column("c", "number", np.array([2.5]))).tolist() == [-1]


def test_rare_levels_share_means_and_have_no_input_of_their_own() -> None:
    cells = many(rare=3)
    targets = np.zeros((len(cells), 2))
    targets[:, 1] = 1.0
    targets[0, 0], targets[MOST_LEVELS, 0] = 4.0, 8.0  # the two rows of level f000
    targets[-1, 0] = 22.0  # the row of level r002
    encoding = fitted(cells, targets)
    assert encoding.one_hot == MOST_LEVELS
    assert encoding.rare == ["r000", "r001", "r002"]
    assert encoding.columns == 3
    rows = inputs_of(encoding, ["f000", "r002", "r000", "new"])
    assert rows.shape == (4, MOST_LEVELS + 2)
    np.testing.assert_array_equal(rows[:, :MOST_LEVELS].sum(axis=1), [1, 0, 0, 0])
    # Means are drawn to 0 as if there were ten further rows of 0.
    assert PRIOR_ROWS == 10
    np.testing.assert_allclose(rows[:, MOST_LEVELS], [12 / 12, 22 / 11, 0.0, 0.0])
    np.testing.assert_allclose(rows[:, MOST_LEVELS + 1], [2 / 12, 1 / 11, 1 / 11, 0.0])


def test_weights_count_in_the_means() -> None:
    encoding = CategoryEncoding(["a"], False, ["b"])
    means = encoding.means_of(np.array([0, 0, 1, -1]), np.array([[1.0], [2.0], [3.0], [9.0]]), np.array([1.0, 4, 0, 7]))
    np.testing.assert_allclose(means, [[(1 + 8) / 15], [0.0]])


def test_columns_of_few_levels_have_no_means() -> None:
    assert fitted(many(rare=0)).means.shape[1] == 0
    assert fitted(many(rare=1)).means.shape == (MOST_LEVELS + 1, 1)
