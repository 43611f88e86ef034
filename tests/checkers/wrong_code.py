"""Mistakes, one a line: a checker has to report every line with a comment, with this code, and no other line.

The comment holds mypy's code, then pyright's rule, or both of its rules.
"""

import numpy as np

import deltaprop as dp

X, y = np.zeros((9, 3)), np.zeros(9)
clf, net = dp.MLPClassifier(), dp.Network([3, 1])

dp.MLPClasifier()  # attr-defined reportAttributeAccessIssue
dp.MLPClassifier(solver="adma")  # arg-type reportArgumentType
dp.MLPClassifier(learning_rate="constnat")  # arg-type reportArgumentType
dp.MLPClassifier(loss="squared_eror")  # arg-type reportArgumentType
dp.MLPClassifier(activation="rleu")  # arg-type reportArgumentType
dp.MLPClassifier(activation=["relu", "rleu"])  # list-item reportArgumentType
dp.MLPClassifier(output_activation="softmx")  # arg-type reportArgumentType
dp.MLPClassifier(class_weight="blanced")  # arg-type reportArgumentType
dp.MLPClassifier(batch_size="all")  # arg-type reportArgumentType
dp.MLPClassifier(backend=None)  # arg-type reportArgumentType
dp.MLPClassifier(backend="cuda")  # arg-type reportArgumentType
dp.MLPClassifier(dtype="float16")  # arg-type reportArgumentType
dp.MLPClassifier(alhpa=0.1)  # call-arg reportCallIssue
dp.MLPRegressor("hubr")  # arg-type reportArgumentType
dp.Network([3, 1], hidden_activation="rleu")  # arg-type reportArgumentType
dp.Network([3, 1], output_activation="sigmid")  # arg-type reportArgumentType
dp.Network([3, 1], loss="mse")  # arg-type reportArgumentType
dp.Network([3, 1], init="glorot")  # arg-type reportArgumentType
dp.Network([3, 1], precision="fp8")  # arg-type reportArgumentType
dp.Network([3, 1], output_error="simple")  # arg-type reportArgumentType
dp.Network("3, 1")  # arg-type reportArgumentType
dp.NetworkStack(2, [3, 1], loss="mse")  # arg-type reportArgumentType
net.fit(X, y, epochs="10")  # arg-type reportArgumentType
net.fit(X, y, optimizer="adam")  # arg-type reportArgumentType
net.fit(X, y, metrics=["acuracy"])  # list-item reportArgumentType
net.fit(X, y, l2_scaling="per_smaple")  # arg-type reportArgumentType
net.fit(X, y, reduction="avg")  # arg-type reportArgumentType
net.fit_full_batch(X, y, method="lbfgs")  # arg-type reportArgumentType
net.jacobian(X, mode="backward")  # call-overload reportCallIssue reportArgumentType
net.ftt(X, y)  # attr-defined reportAttributeAccessIssue
net.fit(X, y).costs  # attr-defined reportAttributeAccessIssue
clf.fit(X, y, weights=y)  # call-arg reportCallIssue
dp.SweepCV(clf, {}, error_score="rise")  # arg-type reportArgumentType
dp.HalvingSweepCV(clf, {}, min_resources="most")  # arg-type reportArgumentType
dp.TabularClassifier(class_weight="blanced")  # arg-type reportArgumentType
dp.EarlyStopping(mode="low")  # arg-type reportArgumentType
dp.Adam("fast")  # arg-type reportArgumentType
dp.load("net.dp", backend="gpu")  # arg-type reportArgumentType
dp.load(3)  # arg-type reportArgumentType
