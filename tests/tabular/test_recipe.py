"""The recipe: what follows from the rows, the columns and the outputs."""

import pytest

from deltaprop.tabular.recipe import recipe_for


@pytest.mark.parametrize(
    ("rows", "columns", "bins", "coarse"),
    [(676, 18, 32, 8), (166, 60, 32, 8), (300, 500, 10, 4), (300, 5000, 4, 4), (200, 0, 32, 8), (100_000, 2000, 32, 8)],
)
def test_bins_by_rows_and_columns(rows: int, columns: int, bins: int, coarse: int) -> None:
    recipe = recipe_for(rows, columns, 1)
    assert (recipe.bins, recipe.coarse_bins) == (bins, coarse)


@pytest.mark.parametrize(("outputs", "width"), [(1, 64), (16, 64), (17, 128), (300, 128)])
def test_widths_by_outputs(outputs: int, width: int) -> None:
    assert recipe_for(1000, 10, outputs).hidden_layer_sizes == (width, width)


@pytest.mark.parametrize(
    ("rows", "batch", "epochs"),
    [(100, 16, 100), (1000, 32, 100), (4000, 128, 100), (20_000, 256, 100), (500_000, 256, 20)],
)
def test_minibatches_and_epochs_by_rows(rows: int, batch: int, epochs: int) -> None:
    recipe = recipe_for(rows, 10, 1)
    assert (recipe.batch_size, recipe.epochs) == (batch, epochs)
