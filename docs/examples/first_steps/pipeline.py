"""
A pipeline of scikit-learn
==========================

:class:`~deltaprop.MLPClassifier` takes the place of scikit-learn's: it has the same parameters and works in
pipelines, cross-validation and displays. You see a learning curve, which says whether more data would help, and a
confusion matrix.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import LearningCurveDisplay, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import deltaprop as dp

X, y = load_digits(return_X_y=True)
network = dp.MLPClassifier((64,), alpha=0.1, learning_rate_init=0.01, tol=1e-3, random_state=0)
model = make_pipeline(StandardScaler(), network)

# %%
# Cross-validation as usual: a prediction for every image, by the pipeline that did not see it.

folds = StratifiedKFold(5, shuffle=True, random_state=0)
predicted = cross_val_predict(model, X, y, cv=folds)
print(f"{(predicted == y).mean():.1%} right")

# %%
# Left, the pipeline is trained on more and more rows. Those that it was trained on are read almost without a fault from
# the start; the curve of the others still rises at the end, so that more data would help. Right, the confusion matrix
# counts the predictions from above.

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4))
LearningCurveDisplay.from_estimator(
    model,
    X,
    y,
    cv=folds,
    train_sizes=[0.05, 0.1, 0.2, 0.4, 0.7, 1.0],
    score_type="both",
    line_kw={"marker": "o"},
    ax=left,
)
left.set(title="Accuracy by the amount of data", xlabel="rows to train on", ylabel="accuracy")
left.legend(left.get_lines(), ["rows trained on", "rows held out"], loc="lower right")
ConfusionMatrixDisplay.from_predictions(y, predicted, ax=right, cmap="cividis", colorbar=False)
right.set(title="Rows held out", xlabel="read as", ylabel="digit")
plt.show()

# %%
# Read on: :class:`deltaprop.MLPClassifier` lists what it has beyond scikit-learn's;
# :ref:`sphx_glr_gallery_choosing_sweep_heat_map.py` searches its parameters.
