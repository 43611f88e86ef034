"""Classify handwritten digits: a pipeline, a holdout and a report."""

from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
model = make_pipeline(StandardScaler(), MLPClassifier((100, 50), early_stopping=True, max_iter=200, random_state=0))
model.fit(X_train, y_train)
print(f"accuracy {accuracy_score(y_test, model.predict(X_test)):.4f}")
print(f"log loss {log_loss(y_test, model.predict_proba(X_test)):.4f}")
print("folds", " ".join(f"{score:.4f}" for score in cross_val_score(model, X, y, cv=5)))
