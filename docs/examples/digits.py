"""
Handwritten digits
==================

A network with one hidden layer learns scikit-learn's digits.
"""

from sklearn.datasets import load_digits

import deltaprop as dp

X, y = load_digits(return_X_y=True)
net = dp.Network([64, 100, 10], loss="categorical_cross_entropy", seed=0)
history = net.fit(X / 16, y, epochs=20, validation=0.2)
history.plot()
