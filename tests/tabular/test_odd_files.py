"""A file as a spreadsheet of another country writes it: trained on, and answered for in every other form."""

import numpy as np
import pytest

from deltaprop.tabular.classifier import TabularClassifier

ROWS = 160


@pytest.fixture(scope="module")
def columns():
    """Two classes; x tells them apart."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(ROWS).round(3)
    return {
        "x": x,
        "flag": rng.random(ROWS) > 0.5,
        "code": rng.choice(["A1", "007", "12"], ROWS),
        "y": np.where(x > 0, "007", "01"),
    }


@pytest.fixture(scope="module")
def classifier(columns, tmp_path_factory):
    lines = ["x;flag;code;when;constant;nothing;y"]
    for row, (x, flag, code, y) in enumerate(zip(*columns.values(), strict=True)):
        lines.append(f"{str(x).replace('.', ',')};{flag};{code};{1 + row % 28}.{1 + row % 12}.2020;0,1;;{y}")
    path = tmp_path_factory.mktemp("files") / "data.csv"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    return TabularClassifier(n_members=2, random_state=0).fit(path, "y")


def test_what_it_was_taken_for(classifier):
    roles = {role.name: role.role for role in classifier.explain_columns()}
    assert roles == {
        "x": "number",
        "flag": "category",
        "code": "category",
        "when": "date",
        "constant": "left out",
        "nothing": "left out",
    }
    assert classifier.classes_.tolist() == ["007", "01"]  # as they are written
    assert classifier.oof_score_ > 0.9


def test_other_forms_of_the_same_rows(classifier, columns, tmp_path):
    """Decimal points, booleans, numbers as text, codes that are all numbers, dates in ISO 8601."""
    days = [f"2020-{1 + row % 12:02d}-{1 + row % 28:02d}" for row in range(ROWS)]
    same = {
        "when": np.array(days, "datetime64[D]"),
        "code": columns["code"],
        "flag": columns["flag"],
        "x": [str(x) for x in columns["x"]],
        "constant": np.full(ROWS, 0.1),
        "nothing": [None] * ROWS,
    }
    expected = classifier.predict_proba(same)
    assert (classifier.predict(same) == columns["y"]).mean() > 0.95
    numbers = np.flatnonzero(columns["code"] != "A1")
    fields = zip(columns["x"], columns["flag"], columns["code"], days, strict=True)
    lines = [f"{x},{str(flag).lower()},{code},{day},0.1," for x, flag, code, day in fields]
    lines = ["x,flag,code,when,constant,nothing", *(lines[row] for row in numbers)]
    path = tmp_path / "new.csv"
    path.write_text("\n".join(lines))
    np.testing.assert_allclose(classifier.predict_proba(path), expected[numbers], rtol=1e-5, atol=1e-7)


def test_what_training_has_not_seen(classifier):
    row = {"x": [None], "flag": ["perhaps"], "code": ["Z9"], "when": ["soon"], "constant": [0.2], "nothing": ["x"]}
    (probabilities,) = classifier.predict_proba(row)
    assert np.isfinite(probabilities).all()
    assert probabilities.sum() == pytest.approx(1.0)
