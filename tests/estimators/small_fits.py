"""Makes small estimators, whose fit takes a moment."""

from typing import Any

import deltaprop as dp

SMALL: dict[str, Any] = {"hidden_layer_sizes": 8, "max_iter": 15, "random_state": 0, "backend": "numpy"}


def classifier(**options):
    return dp.MLPClassifier(**(SMALL | options))


def regressor(**options):
    return dp.MLPRegressor(**(SMALL | options))
