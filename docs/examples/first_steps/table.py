"""
A table with text and gaps
==========================

Real tables have text, dates and empty cells. :class:`~deltaprop.TabularClassifier` takes them as they are: you see what
it takes each column for, how good it is on rows that it was not trained on, and which columns matter.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import deltaprop as dp

# %%
# The table is made on the spot, so that we know the truth: flats sell within a month if they are cheap for their
# district and size, in spring, and with a heat pump. The broker and the year of building have no influence. A tenth of
# the cells in two columns is empty.

rng = np.random.default_rng(0)
rows = 1500
flats = pd.DataFrame(
    {
        "district": rng.choice(["Harbour", "Old Town", "Hill", "Meadows"], rows),
        "area": rng.uniform(25, 120, rows).round(1),
        "built": rng.integers(1900, 2020, rows).astype(float),
        "heating": rng.choice(["gas", "district heating", "heat pump"], rows),
        "broker": rng.choice(["Adams", "Brown", "Clark", "Davis", "Evans"], rows),
        "offered": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 730, rows), "D"),
    }
)
worth = flats["district"].map({"Harbour": 5200, "Old Town": 4600, "Hill": 4100, "Meadows": 3000}) * flats["area"]
flats["price"] = (worth * rng.normal(1.0, 0.15, rows)).round(-2)
in_spring = flats["offered"].dt.month.isin([3, 4, 5])
score = 16 * (1 - flats["price"] / worth) + 3 * in_spring + 2 * (flats["heating"] == "heat pump")
flats["sold"] = np.where(score + rng.logistic(size=rows) > 1.5, "within a month", "later")
for column in ("built", "heating"):
    flats.loc[rng.random(rows) < 0.1, column] = None
print(flats.head(4).to_string())

# %%
# One call, with the table and the name of the target. No scaling, no encoding, no filling of gaps.

model = dp.TabularClassifier(random_state=0).fit(flats[:1000], "sold")
print(model.explain_columns())

# %%
# The model is an ensemble, whose members held out different rows; ``oof_score_`` is the accuracy on those. The last 500
# rows were not shown to it at all.

test = flats[1000:]
print(f"accuracy on rows held out while training: {model.oof_score_:.2f}")
print(f"accuracy on the last 500 rows:            {model.score(test, test['sold']):.2f}")
print(f"share of the more frequent answer:        {test['sold'].value_counts(normalize=True).max():.2f}")

# %%
# Price, area and district matter most: only together do they tell whether a flat is cheap. Then come the date of the
# offer and the heating. The year of building and the broker hardly matter, as we made it.

model.plot_importances()
plt.show()

# %%
# Read on: :ref:`guide-tables` says what is done with each kind of column; ``deltaprop train FILE --target sold`` does
# the same from the command line; :class:`deltaprop.TabularRegressor` predicts numbers, with intervals.
