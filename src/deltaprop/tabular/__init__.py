"""From a raw table to an answer: `TabularClassifier` and `TabularRegressor`."""
