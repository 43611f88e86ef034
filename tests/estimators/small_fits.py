"""Makes small estimators, whose fit takes a moment."""

import deltaprop as dp


def classifier(**options):
    return dp.MLPClassifier(
        **({"hidden_layer_sizes": 8, "max_iter": 15, "random_state": 0, "backend": "numpy"} | options)
    )


def regressor(**options):
    return dp.MLPRegressor(
        **({"hidden_layer_sizes": 8, "max_iter": 15, "random_state": 0, "backend": "numpy"} | options)
    )
