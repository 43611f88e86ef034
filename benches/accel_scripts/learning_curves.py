"""Compare the training losses of solvers and learning rates on the digits."""

import warnings

from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import MinMaxScaler

SETTINGS = {
    "constant": {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.2},
    "constant with momentum": {"solver": "sgd", "nesterovs_momentum": False, "learning_rate_init": 0.2},
    "constant with Nesterov's momentum": {"solver": "sgd", "learning_rate_init": 0.2},
    "inverse scaling": {"solver": "sgd", "learning_rate": "invscaling", "momentum": 0.0, "learning_rate_init": 0.2},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.1},
    "adam": {"solver": "adam", "learning_rate_init": 0.01},
}
X, y = load_digits(return_X_y=True)
X = MinMaxScaler().fit_transform(X)
for name, options in SETTINGS.items():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=ConvergenceWarning, module="sklearn")
        mlp = MLPClassifier(random_state=0, max_iter=60, **options).fit(X, y)
    print(f"{name}: score {mlp.score(X, y):.4f}, loss {mlp.loss_:.4f} after {mlp.n_iter_} epochs")
