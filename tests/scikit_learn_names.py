"""A plugin for pytest: whoever imports scikit-learn's two estimators after it gets ours."""

import sklearn.neural_network

import deltaprop

sklearn.neural_network.MLPClassifier = deltaprop.MLPClassifier
sklearn.neural_network.MLPRegressor = deltaprop.MLPRegressor
