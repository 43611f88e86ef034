"""A network of 784-100-10 on MNIST, as its idx.gz files in the folder given; else on the digits, made as large."""

import gzip
import sys
import warnings
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier


def read(path, header):
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)


if len(sys.argv) > 1:
    folder = Path(sys.argv[1])
    images = [read(next(folder.glob(f"{part}-images*")), 16).reshape(-1, 784) for part in ("train", "t10k")]
    X_train, X_test = (each / 255.0 for each in images)
    y_train, y_test = (read(next(folder.glob(f"{part}-labels*")), 8) for part in ("train", "t10k"))
else:
    X, y = load_digits(return_X_y=True)
    X = np.pad(np.kron(X.reshape(-1, 8, 8) / 16, np.ones((3, 3))), ((0, 0), (2, 2), (2, 2))).reshape(-1, 784)
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)

epochs = 8 if len(sys.argv) > 1 else 60
mlp = MLPClassifier((100,), max_iter=epochs, alpha=1e-4, solver="sgd", learning_rate_init=0.2, random_state=1)
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", category=ConvergenceWarning, module="sklearn")
    mlp.fit(X_train, y_train)
print(f"loss {mlp.loss_:.4f}")
print(f"training {mlp.score(X_train, y_train):.4f}")
print(f"test {mlp.score(X_test, y_test):.4f}")
