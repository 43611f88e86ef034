"""Search a grid of regularisation and learning rates by cross-validation."""

import warnings

from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

warnings.filterwarnings("ignore", category=ConvergenceWarning, module="sklearn")
X, y = load_breast_cancer(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=1)
scaler = StandardScaler().fit(X_train)
grid = {"alpha": [1e-5, 1e-3, 1e-1, 1.0], "learning_rate_init": [3e-4, 1e-3, 3e-3, 1e-2]}
search = GridSearchCV(MLPClassifier((50,), max_iter=100, random_state=1), grid, cv=5)
search.fit(scaler.transform(X_train), y_train)
print("best", sorted(search.best_params_.items()))
print(f"cross-validated {search.best_score_:.4f}")
print(f"test {search.score(scaler.transform(X_test), y_test):.4f}")
