"""Every picture: a legend that covers nothing, labels on all axes, nothing cut off, colours that all people tell apart."""

import itertools
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import colors, pyplot

import deltaprop as dp
from deltaprop.cli.bench import _picture
from deltaprop.reports import plot_style
from deltaprop.reports.parameter_axis import parameter_axis
from deltaprop.reports.plotting import plot_importances, plot_rates, plot_weights
from deltaprop.reports.search_plots import plot_halving, plot_sweep

RNG = np.random.default_rng(0)
NAN = float("nan")


@pytest.fixture(autouse=True)
def no_window():
    pyplot.switch_backend("Agg")
    yield
    pyplot.close("all")


def sweep(candidates, mean=None, score="accuracy"):
    mean = RNG.uniform(0.7, 0.9, len(candidates)) if mean is None else mean
    return plot_sweep(candidates, mean, np.full(len(candidates), 0.02), score)


DRAWS = [
    {
        "learning_rate_init": 10 ** RNG.uniform(-5, 0),
        "alpha": float(RNG.choice([0, 10 ** RNG.uniform(-6, -1)])),
        "hidden_layer_sizes": tuple(RNG.choice([16, 32, 64], RNG.integers(1, 4)).tolist()),
        "activation": ("relu", "tanh", None)[RNG.integers(3)],
        "batch_size": int(RNG.choice([16, 64, 256])),
    }
    for _ in range(100)
]
R2 = np.r_[-1e6, -300.0, NAN, RNG.uniform(0.5, 0.9, 57)]
LONG = "a name of a column or of a metric that somebody has written at length"
RATES = np.geomspace(1e-5, 1, 30)
METRICS = {name: RNG.uniform(0, 1, 12).tolist() for name in ("accuracy", "f1_macro", LONG)}
METRICS["r2"] = [-1e6, -5e3, -40.0, *np.linspace(0, 0.9, 9).tolist()]
COSTS = np.geomspace(2.0, 1e-3, 12).tolist()
ROWS = [
    {"operation": operation, "network": network, "dtype": dtype, "backend": backend, "minibatch": b}
    | {"samples_a_second": 1e6 * b / (b + n)}
    for operation in ("forward", "backward", "step", "epoch")
    for n, network in enumerate(("64-32-1", "784-30-10", "784-100-10", "784-512-512-10", "784-1024-1024-10"), start=1)
    for dtype in ("float32", "float64")
    for backend in ("reference", "numpy", "cupy")
    for b in (1, 10, 128)
]
HALVING = [DRAWS[k] | {"max_iter": amount} for amount, kept in ((2, 9), (6, 3), (18, 1)) for k in range(kept)]
AMOUNTS = [each["max_iter"] for each in HALVING]

PICTURES = {
    "one epoch": lambda: dp.History([0.7], [0.8], {"accuracy": [0.6]}).plot(),
    "no validation": lambda: dp.History(COSTS).plot(),
    "many metrics": lambda: dp.History(COSTS, COSTS[:7], METRICS, best_epoch=4).plot(),
    "costs that are nan": lambda: dp.History([2.0, 1.0, NAN, NAN], diverged=True).plot(),
    "learning rates": lambda: plot_rates(RATES, RATES[::-1] + 0.1, RATES[::-1], 0.01),
    "one candidate": lambda: sweep([{"alpha": 1e-3, "activation": "relu"}]),
    "no parameters": lambda: sweep([{}]),
    "100 draws": lambda: sweep(DRAWS),
    "60 words": lambda: sweep([{"hidden_layer_sizes": (k + 3, 100 + k)} for k in range(60)]),
    "negative scores": lambda: sweep(DRAWS[:60], R2, "r2"),
    "no scores": lambda: sweep(DRAWS[:3], np.full(3, NAN)),
    "halving": lambda: plot_halving(HALVING, RNG.uniform(0.7, 0.9, 13), np.full(13, 0.02), LONG, None, "max_iter", AMOUNTS),
    "importances": lambda: plot_importances([LONG, "b", "c"], [0.4, 0.0, -0.01], 20, "rise of the log loss"),
    "weights": lambda: plot_weights(RNG.standard_normal((30, 64)), (8, 8)),
    "one unit": lambda: plot_weights(np.zeros((1, 4)), (2, 2)),
    "benchmarks": lambda: _picture(ROWS),
    "one benchmark": lambda: _picture(ROWS[:1]),
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
def test_nothing_is_covered_or_cut_off(name):
    check(PICTURES[name]())


def check(figure):
    """Check one picture by the places of its parts on the canvas."""
    figure.canvas.draw()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(box.x0, box.y0) >= -0.01
    assert box.x1 <= width + 0.01
    assert box.y1 <= height + 0.01
    legends = [*figure.legends, *(axis.get_legend() for axis in figure.axes if axis.get_legend())]
    for legend, axis in itertools.product(legends, figure.axes):
        assert not legend.get_window_extent().overlaps(axis.get_window_extent())  # no point, as all lie in the axes
        assert not legend.get_window_extent().overlaps(axis.xaxis.label.get_window_extent())
    for axis in figure.axes:
        assert axis.get_window_extent().height > 20  # pixels
        if axis.axison and axis.get_label() != "<colorbar>":
            assert axis.get_xlabel()
            assert axis.get_ylabel()
            low, high = sorted(axis.get_xlim())
            ticks = zip(axis.get_xticks(), axis.get_xticklabels(), strict=True)
            level = [text for at, text in ticks if low <= at <= high and text.get_rotation() == 0 and text.get_text()]
            boxes = [text.get_window_extent() for text in level]
            assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
        drawn = {colors.to_hex(each.get_color()).upper() for each in axis.lines if each.get_label()[:1] != "_"}
        assert drawn <= {*plot_style.COLOURS, colors.to_hex(plot_style.GREY).upper()}


def test_curves_look_different_in_grey():
    looks = [plot_style.look(k) for k in range(24)]
    assert len({(each["marker"], each["color"]) for each in looks}) == 24
    assert len({(each["marker"], each["linestyle"]) for each in looks}) == 24


#: Machado, Oliveira and Fernandes, 2009: how linear RGB is seen without one kind of cones.
WITHOUT = {
    "any lack": np.eye(3),
    "long-wave cones": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "medium-wave cones": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}  # fmt: skip


@pytest.mark.parametrize("lack", WITHOUT)
def test_colours_are_told_apart_without(lack):
    seen = np.clip(linear(plot_style.COLOURS) @ np.array(WITHOUT[lack]).T, 0, 1)
    places = lab(seen)
    least = min(np.linalg.norm(a - b) for a, b in itertools.combinations(places, 2))
    assert least > 10  # a difference of 2.3 can just be seen


def linear(names):
    rgb = np.array([colors.to_rgb(name) for name in names])
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """Turn linear sRGB into CIELAB, where distances are differences that people see."""
    xyz = rgb @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    t = xyz / [0.9505, 1.0, 1.089]
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def test_signed_colours_rise_in_lightness():
    lightness = lab(linear(pyplot.get_cmap(plot_style.SIGNED_COLOURS)(np.linspace(0, 1, 50))[:, :3]))[:, 0]
    assert (np.diff(lightness) > 0).all()


@pytest.mark.parametrize(("name", "values", "scale"), [
    ("learning_rate_init", [1e-3, 1e-2, 1e-1], "log"),
    ("mlp__lr", [0.01, 0.2], "log"),
    ("alpha", [0, 1e-4, 1e-2], "symlog"),
    ("l2", [1e-5, 1.0], "log"),
    ("weight_decay", [0.0, 1e-5, 1e-3], "symlog"),
    ("alpha", [0.1, 0.2, 0.3], "linear"),
    ("batch_size", [16, 32, 64, 128, 256], "log"),
    ("dropout", [0.05, 0.2, 0.35, 0.5, 0.65], "linear"),
    ("clip_norm", [None, 1.0, 5.0], "words"),
    ("early_stopping", [True, False], "words"),
    ("alpha", [1e-3, NAN], "words"),
])  # fmt: skip
def test_the_scale_of_a_parameter(name, values, scale):
    axis = parameter_axis(name, values)
    assert axis.scale == scale
    _, drawn = pyplot.subplots()
    axis.draw(drawn)
    assert drawn.get_xscale() == ("linear" if scale == "words" else scale)
    low, high = drawn.get_xlim()
    assert low < axis.at.min() <= axis.at.max() < high


def test_zero_has_a_tick_of_its_own():
    figure = sweep([{"alpha": value} for value in (0, *np.geomspace(1e-6, 1e-1, 20))])
    (axis,) = figure.axes
    figure.canvas.draw()
    ticks = dict(zip(axis.get_xticks(), (label.get_text() for label in axis.get_xticklabels()), strict=True))
    assert ticks[0] == "0"
    assert ticks[1e-2] == "0.01"
    place = axis.transData.transform([(0, 0.8), (1e-6, 0.8), (1e-5, 0.8)])[:, 0]
    assert place[1] - place[0] == pytest.approx((place[2] - place[1]) * 10 / 9)


def test_words_of_numbers_are_sorted():
    sizes = [(8, 8), (100,), (20,), (8, 4), (20,)]
    axis = parameter_axis("hidden_layer_sizes", sizes)
    assert list(axis.words) == ["(20,)", "(100,)", "(8, 4)", "(8, 8)"]
    assert [axis.words[int(k)] for k in axis.at] == [str(each) for each in sizes]
    assert list(parameter_axis("size", ["small", "large", "small"]).words) == ["small", "large"]


def test_scores_far_below_stand_at_the_edge_and_are_counted():
    figure = sweep([{"l2": k} for k in range(60)], R2, "r2")
    (axis,) = figure.axes
    low, high = axis.get_ylim()
    assert -1 < low < np.nanmin(R2[3:]) < np.nanmax(R2) < high
    assert "below the axis: 2, the lowest -1e+06" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert figure.get_suptitle() == "1 of 60 results have no score and are not shown"


def test_scales_of_a_history():
    figure = dp.History(COSTS, COSTS[:7], METRICS).plot()
    assert [axis.get_yscale() for axis in figure.axes] == ["log", "linear", "linear", "linear", "symlog"]
    assert figure.axes[0].lines[1].get_ydata().tolist() == COSTS[:7]
    assert dp.History([2.0, 0.2]).plot().axes[0].get_yscale() == "linear"
    label = dp.History([2.0, 1.0, NAN]).plot().axes[0].lines[-1].get_label()
    assert label == "cost not finite from epoch 3"


#: The files of results are in the clone only: an installed package has none.
RESULTS = Path(__file__).parents[2] / "benches" / "results"


@pytest.mark.parametrize("name", ["output_error", "tabular", "limits"])
def test_pictures_of_benches_are_drawn_from_their_figures(monkeypatch, tmp_path, name):
    if name == "tabular":
        pytest.importorskip("pandas")
    bench = import_module(f"deltaprop.benches.{name}")
    drawn: list[Any] = []
    monkeypatch.setattr(bench, "save_plot", lambda figure, _: drawn.append(figure))
    monkeypatch.setattr(bench, "RESULTS", RESULTS, raising=False)
    kept, picture = str(RESULTS / f"{name}.json"), str(tmp_path / "p.png")
    if name == "limits":
        bench.picture(json.loads(Path(kept).read_text())["growth"], picture)
    else:
        options = ["--draw-only"] if name == "tabular" else ["--draw-only", kept, "--plot", picture]
        monkeypatch.setattr("sys.argv", [name, *options])
        bench.main()
    check(drawn[0])


@pytest.mark.parametrize(
    "values",
    [(10**400, 1), (1e308, 5e-324), (-1e308, 1e308), (float("inf"), 1.0)],
    ids=["int", "range", "signs", "inf"],
)
def test_numbers_beyond_the_reach_of_an_axis_are_words(values):
    axis = parameter_axis("learning_rate", values)
    assert axis.scale == "words"
    assert sorted(axis.words) == sorted(map(str, values))


def test_scores_too_large_to_draw_leave_the_others(tmp_path):
    candidates = [{"eta": eta} for eta in (0.001, 0.01, 0.1)]
    figure = plot_sweep(candidates, [0.5, -1e308, 0.75], [0.1, 1e308, 0.1], "r2")
    figure.savefig(tmp_path / "sweep.png")
    low, high = figure.axes[0].get_ylim()
    assert -1 < low < 0.4
    assert 0.85 < high < 2
    assert figure.get_suptitle() == "1 of 3 results have a score too large to draw and are not shown"
    both = plot_sweep(candidates, [NAN, -np.inf, 0.75], [0.1, 0.1, 0.1], "r2")
    assert both.get_suptitle() == "of 3 results, 1 without a score and 1 too large to draw are not shown"


NAMES = [
    "a_name_that_somebody_has_written_at_very_great_length",
    "columntransformer__numeric__simpleimputer__strategy",
    "standardscaler__transformedtargetregressor__max_iter",
    "_eta",
    "$eta$",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_users_choose_stay_in_the_frame(name):
    candidates = [{name: value, "b": value % 2, "c": value} for value in (1, 2, 4, 9)]
    figure = sweep(candidates)
    check(figure)
    axis = min(figure.axes, key=lambda each: each.get_xlabel().strip() in "bc")
    text = axis.get_xlabel().strip()
    assert len(text.replace("\\", "")) == min(len(name), 40)
    kept = text.strip("…").removesuffix(" [epochs]").replace("\\", "")
    assert name.endswith(kept) if "__" in name else name.startswith(kept)
    assert ("…" in text) == (len(name) > 40)
    seen = axis.xaxis.label.get_window_extent()
    others = [each.xaxis.label.get_window_extent() for each in figure.axes if each is not axis]
    assert seen.x0 >= 0
    assert not any(seen.overlaps(other) for other in others)


@pytest.mark.parametrize("name", ["_budget", "$m$", "max_iter"])
def test_a_legend_has_every_amount_of_a_resource(name):
    candidates = [{"eta": k} for k in range(4)]
    figure = plot_halving(candidates, [0.5, 0.6, 0.7, 0.8], np.zeros(4), "r2", None, name, [1, 1, 3, 9])
    texts = [text.get_text().replace("\\", "").strip() for text in figure.legends[0].get_texts()]
    assert [text for text in texts if not text.startswith("best")] == [f"{name} {amount}" for amount in (1, 3, 9)]


def test_every_name_of_a_user_is_made_a_label():
    """Columns, metrics, scores, parameters and their words: none is a formula, or hidden."""
    importances = plot_importances(["_a", "$b$", LONG], [0.3, 0.2, 0.1], 3, "rise")
    history = dp.History([2.0, 1.0], [2.0, 1.0], {"$m$": [0.5, 0.6]}).plot()
    words = sweep([{"_kind": word} for word in ("_a", "$b$")], score="$s$")
    for figure in (importances, history, words):
        check(figure)
    ticks = [text.get_text().strip() for text in importances.axes[0].get_yticklabels()]
    assert ticks == ["_a", r"\$b\$", LONG[:39] + "…"]
    assert history.axes[1].get_ylabel() == r"validation \$m\$"
    assert words.axes[0].get_ylabel() == r"mean test \$s\$"
    assert [text.get_text().strip() for text in words.axes[0].get_xticklabels()] == ["_a", r"\$b\$"]
