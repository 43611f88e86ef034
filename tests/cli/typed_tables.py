"""Tables that tests write, and commands that they type."""

import csv
import io
import re

import numpy as np

from deltaprop.cli import run

#: Two small networks: what they know does not matter here.
FAST = ["--members", "2", "--hidden", "8", "--no-progress"]
ROWS = 80


class Terminal:
    """It types commands and reads what they print."""

    def __init__(self, capsys):
        self.capsys = capsys

    def __call__(self, *arguments):
        """Run a command that has to end well, and return what it prints."""
        status = run([str(argument) for argument in arguments])
        shown = self.capsys.readouterr()
        assert status == 0, shown.err
        return shown.out

    def refused(self, *arguments):
        """Run a command that has to be refused, and return the error."""
        assert run([str(argument) for argument in arguments]) == 2
        error = self.capsys.readouterr().err
        assert error.count("\n") == 1
        return error


def write(path, header, rows, *, sep=",", end="\n", encoding="utf-8"):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=sep, lineterminator=end)
    writer.writerow(header)
    writer.writerows(rows)
    path.write_bytes(text.getvalue().encode(encoding))
    return path


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def check_round_trip(typed, model, path, target, truth, *options):
    """Predict and evaluate a file, and compare the score with the score of the predictions."""
    predicted = [row[target] for row in rows_of(typed("predict", model, path, *options))]
    assert len(predicted) == len(truth)
    said = typed("evaluate", model, path, *options)
    if "accuracy" in said:
        right = np.mean([one == other for one, other in zip(predicted, truth, strict=True)])
        assert f"accuracy {right:.3f} on {len(truth):,} rows" in said
    else:
        values, wanted = np.array(predicted, float), np.array([text.replace(",", ".") for text in truth], float)
        explained = 1 - ((values - wanted) ** 2).sum() / ((wanted - wanted.mean()) ** 2).sum()
        assert f"R² {explained:.4f} on {len(truth):,} rows" in said
    return predicted


def sizes_and_kinds(rng, rows=ROWS):
    sizes = rng.normal(10, 3, rows).round(2)
    return sizes, np.where(sizes > 10, "big", "small")


def shown_roles(text):
    """Return, by name, what each column is said to be taken for."""
    found = re.findall(r"^  (\S+|\S.*?\S) +(number|category|date|left out) +(\S.*)$", text, re.M)
    return {name: (role, reason) for name, role, reason in found}
