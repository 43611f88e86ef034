"""Stack a perceptron with other regressors on the diabetes data."""

from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor, StackingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_validate
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

X, y = load_diabetes(return_X_y=True)
perceptron = make_pipeline(
    StandardScaler(),
    MLPRegressor(hidden_layer_sizes=(64, 32), alpha=1.0, early_stopping=True, random_state=0),
)
members = [
    ("perceptron", TransformedTargetRegressor(perceptron, transformer=StandardScaler())),
    ("forest", RandomForestRegressor(50, random_state=0)),
    ("ridge", RidgeCV()),
]
stack = StackingRegressor(members, final_estimator=RidgeCV())
found = cross_validate(
    stack, X, y, cv=KFold(5, shuffle=True, random_state=0), scoring=["r2", "neg_mean_absolute_error"]
)
print(f"R2 {found['test_r2'].mean():.4f}, mean absolute error {-found['test_neg_mean_absolute_error'].mean():.3f}")
