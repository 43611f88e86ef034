"""Tables of training on a GPU."""

from __future__ import annotations

from .figures import Figures, Node
from .table import NOTHING, Cell, Table, cell, duration, label, percent, ratio, significant, whole

FILE = "gpu-nvidia-h200"
OURS = "deltaprop"
PRECISIONS = {"fp32": "float32", "tf32": "TF32", "bf16": "bfloat16", "fp16": "float16"}
#: What is shown of each: JAX's scan with operands of the precision stands for it where there are two.
CONTESTANTS: dict[str, tuple[str, ...]] = {
    "deltaprop": ("deltaprop",),
    "JAX scan": ("JAX scan", "JAX scan, bf16 operands"),
    "JAX jit": ("JAX jit",),
    "PyTorch graph": ("PyTorch graph",),
    "PyTorch eager": ("PyTorch eager",),
    "plain CuPy": ("naive CuPy",),
}


def _rows(figures: Figures, part: str) -> list[Node]:
    return list(figures[FILE]["parts"][part]["rows"])


def _sizes(network: str) -> str:
    widths = network.split("-")
    return f"{widths[0]} × {len(widths)}" if len(set(widths)) == 1 else network


def steps(figures: Figures) -> Table:
    """Microseconds a step of each contestant, by network and precision."""
    rows = _rows(figures, "peers")
    order = list(dict.fromkeys(row["network"].text for row in rows))
    rows.sort(key=lambda row: (order.index(row["network"].text), list(PRECISIONS).index(row["precision"].text)))
    lines = []
    for row in rows:
        times = []
        for names in CONTESTANTS.values():
            found = next((row["contestants"][name] for name in names if name in row["contestants"]), None)
            times.append(label(NOTHING) if found is None else cell(found["median"], significant))
        first = [
            label(_sizes(row["network"].text)),
            cell(row["batch"], whole),
            label(PRECISIONS[row["precision"].text]),
        ]
        lines.append([*first, cell(row["ratio"], ratio), *times, cell(row["share_of_ceiling"], percent)])
    heads = ["network", "minibatch", "precision", "best peer ÷ deltaprop", *CONTESTANTS, "of one large product"]
    return Table(heads, lines, [FILE], labels=3)


def ceilings(figures: Figures) -> Table:
    """What the device reaches at most, and what the kernels that stream through memory reach of it."""
    lines = []
    for row in _rows(figures, "ceilings"):
        name = row["name"].text
        if "bytes_a_second" in row:
            lines.append([label(name), cell(row["bytes_a_second"], lambda x: f"{x / 1e12:.2f} TB/s"), label(NOTHING)])
        elif "flop_a_second" in row:
            lines.append([label(name), cell(row["flop_a_second"], lambda x: f"{x / 1e12:.0f} TFLOP/s"), label(NOTHING)])
        else:
            lines.append([label(f"`{name}`"), label(NOTHING), cell(row["share_of_copy"], percent)])
    return Table(["what", "rate", "of a copy's rate"], lines, [FILE])


def members(figures: Figures) -> Table:
    """Many small networks side by side."""
    lines = []
    for row in _rows(figures, "members"):
        beside = next((row[key] for key in ("ratio", "ratio_of_many") if key in row), None)
        over = label(NOTHING) if beside is None else cell(beside, ratio)
        lines.append([label(row["name"].text), cell(row["median"], significant), over])
    return Table(["64-32-10, minibatch 32", "µs a step", "128 networks ÷ one"], lines, [FILE])


def epochs(figures: Figures) -> Table:
    """What an epoch costs: a part for itself, and a part for each step."""
    lines = []
    for row in _rows(figures, "epochs"):
        line = row["lines"]["whole"]
        apart = [cell(line[key], significant) for key in ("microseconds_an_epoch", "microseconds_a_step")]
        last = cell(row["microseconds"]["in_a_row"][-1], lambda x: duration(x * 1e-6))
        name = row["name"].text.replace(" b", ", ")
        lines.append([label(name), label(row["way"].text), *apart, last])
    heads = ["network, minibatch", "way", "an epoch, µs", "and each step, µs", "1000 steps, one of many epochs"]
    return Table(heads, lines, [FILE], labels=2)


def mnist(figures: Figures) -> Table:
    """784-100-10 on MNIST."""
    lines = []
    for row in _rows(figures, "mnist"):
        accuracy = cell(row["accuracy"], lambda x: f"{100 * x:.2f} %")
        lines.append([label(row["name"].text), cell(row["epochs"], whole), cell(row["seconds"], duration), accuracy])
    return Table(["784-100-10 on MNIST", "epochs", "time", "test accuracy"], lines, [FILE])


def checks(figures: Figures) -> Table:
    """What was checked on the device, and what was found."""
    parts = figures[FILE]["parts"]
    counts = parts["tests"]["rows"].where(name="counts")
    lines = [[label("tests marked `gpu`, passed"), cell(counts["passed"], whole)]]
    lines += [
        [label("tests that failed or broke off"), Cell(whole(broken), broken)]
        for broken in [counts["failed"].number + counts["errors"].number]
    ]
    lines.append([label("tests that were skipped"), cell(counts["skipped"], whole)])
    for row in parts["bits"]["rows"]:
        if "subnormal" not in row["name"].text:
            name = row["name"].text.partition(",")[0]
            lines.append([label(f"`{name}` over all float32, units in the last place"), cell(row["ulp"], significant)])
    tools = list(parts["sanitizer"]["rows"])
    clean = sum(row["exit"].number == 0 for row in tools)
    lines.append([label("runs of compute-sanitizer that found nothing"), Cell(f"{clean} of {len(tools)}", clean)])
    ways = list(parts["memory"]["rows"])
    flat = sum(row["used_after_40"].number <= row["used_after_2"].number for row in ways)
    lines.append([label("ways of training whose memory stays flat over 40 fits"), Cell(f"{flat} of {len(ways)}", flat)])
    return Table(["check", "found"], lines, [FILE])


def left_out(figures: Figures) -> Table:
    """What the budget of time did not allow to measure, by network."""
    found: dict[str, list[str]] = {}
    for each in figures[FILE]["parts"]["peers"]["left_out"]:
        network, _, rest = each.text.partition(" ")
        precision, _, compiled = rest.partition(" ")[2].partition(", ")
        name = PRECISIONS.get(precision, precision)
        found.setdefault(_sizes(network), []).append(f"{name} {compiled}".strip())
    lines = [[label(network), label(", ".join(sorted(what)))] for network, what in found.items()]
    return Table(["network", "not measured"], lines or [[label("nothing"), label(NOTHING)]], [FILE], labels=2)
