"""Learn from a stream of batches, and test on the next batch before it is learned from."""

import numpy as np
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

rng = np.random.default_rng(0)
model, scaler = MLPRegressor(hidden_layer_sizes=(100, 50), learning_rate_init=3e-3, random_state=0), StandardScaler()
scores = []
for batch in range(150):
    X = rng.standard_normal((1000, 12))
    y = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2] + 0.1 * rng.standard_normal(len(X))
    X = scaler.partial_fit(X).transform(X)
    if batch:
        scores.append(model.score(X, y))
    model.partial_fit(X, y)
print(f"R2 after 50, 100 and 149 batches: {scores[49]:.3f} {scores[99]:.3f} {scores[148]:.3f}")
