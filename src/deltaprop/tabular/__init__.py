"""From a raw table to an answer: `TabularClassifier` and `TabularRegressor`."""

#: Folds of more members than this take more memory than their networks are worth.
MOST_MEMBERS = 10_000
