"""Makes the README's tables from a file of results: peers, ceilings, members, epochs, MNIST, checks."""

from collections.abc import Sequence
from typing import Any

from .peers import OURS

Row = dict[str, Any]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def rows_of(content: dict[str, Any], part: str) -> list[Row]:
    rows: list[Row] = content["parts"].get(part, {}).get("rows", [])
    return rows


def rates(content: dict[str, Any]) -> dict[str, float]:
    """Return the operations a second of one large product, by precision."""
    found = ((row["name"].partition("product ")[2], row.get("flop_a_second")) for row in rows_of(content, "ceilings"))
    return {precision: rate for precision, rate in found if precision and rate}


def share(row: Row, ceilings: dict[str, float]) -> float | None:
    """Return the rate of our step, as a share of the rate of one large product in its precision."""
    ours, ceiling = row["contestants"].get(OURS, {}).get("median"), ceilings.get(row["precision"])
    return row["flop_a_step"] / (ours * 1e-6) / ceiling if ours and ceiling else None


def joined(rows: list[Row]) -> list[Row]:
    """Join both passes into one row for each network and precision; the ratio is the smaller one of the passes."""
    found: dict[tuple[str, int, str], Row] = {}
    for row in sorted(rows, key=lambda row: bool(row["compiled"])):
        key = (row["network"], row["batch"], row["precision"])
        if key not in found:
            found[key] = {**row, "contestants": dict(row["contestants"])}
            continue
        first = found[key]
        others = {who: each for who, each in row["contestants"].items() if who != OURS}
        first["contestants"] |= others
        if row["ratio"] is not None and (first["ratio"] is None or row["ratio"] < first["ratio"]):
            first["ratio"], first["best_peer"] = row["ratio"], row["best_peer"]
    networks, precisions = ([row[key] for row in rows] for key in ("network", "precision"))
    return sorted(found.values(), key=lambda row: (networks.index(row["network"]), precisions.index(row["precision"])))


def peers(content: dict[str, Any]) -> str:
    """Return the table of microseconds a step: medians, our spread, the best agreeing peer over ours."""
    rows, ceilings = joined(rows_of(content, "peers")), rates(content)
    names = list(dict.fromkeys(who for row in rows for who in row["contestants"]))
    names.sort(key=lambda who: not who.startswith(OURS))
    header = ["network, minibatch", "precision", *names, "way", "best peer / deltaprop", "of one large product"]
    lines = []
    for row in rows:
        cells = [_cell(who, row["contestants"].get(who)) for who in names]
        blocks = "" if row["blocks"] is None else f", {row['blocks']} block{'' if row['blocks'] == 1 else 's'}"
        ratio = "–" if row["ratio"] is None else f"{row['ratio']:.2f} ({row['best_peer']})"
        of = share(row, ceilings)
        whole = "–" if of is None else f"{of:.1%}"
        lines.append(
            [f"{row['network']}, {row['batch']}", row["precision"], *cells, f"{row['way']}{blocks}", ratio, whole]
        )
    return table(header, lines)


def _cell(who: str, each: Row | None) -> str:
    if each is None:
        return "–"
    spread = f" ({each['spread'][0]:.4g}–{each['spread'][1]:.4g})" if who == OURS else ""
    return f"{each['median']:.4g}{spread}" + ("" if each["agrees"] else " (disagrees)")


def ceilings(content: dict[str, Any]) -> str:
    lines = []
    for row in rows_of(content, "ceilings"):
        if "bytes_a_second" in row:
            what = f"{row['bytes_a_second'] / 1e12:.2f} TB/s"
        elif "flop_a_second" in row:
            what = f"{row['flop_a_second'] / 1e12:.1f} TFLOP/s"
        elif "share_of_copy" in row:
            goal = f" (to reach: {row['to_reach']})" if "to_reach" in row else ""
            what = f"{row['share_of_copy']:.3f} of the copy{goal}"
        else:
            what = row["why"]
        idle = f"{row['from_idle'] * 1e6:.0f} µs" if "from_idle" in row else ""
        lines.append([row["name"], what, f"{row['median'] * 1e6:.0f} µs" if "median" in row else "", idle])
    return table(["what", "measured", "takes", "from an idle device"], lines)


def members(content: dict[str, Any]) -> str:
    lines = []
    for row in rows_of(content, "members"):
        ratio = row.get("ratio")
        over = "" if ratio is None else f"{ratio:.2f} of one on as many blocks"
        if row.get("ratio_of_many") is not None:
            over = f"many take {row['ratio_of_many']:.2f} of it"
        lines.append([row["name"], "–" if row["blocks"] is None else str(row["blocks"]), f"{row['median']:.2f}", over])
    return table(["64-32-10, minibatch 32", "blocks each", "µs a step", ""], lines)


def epochs(content: dict[str, Any]) -> str:
    """Return the table of lines through the times of epochs: the time without steps, and the slope."""
    lines = []
    for row in rows_of(content, "epochs"):
        cells = [
            f"{of['microseconds_an_epoch']:.0f} + {of['microseconds_a_step']:.3g} n" if of else "–"
            for of in (row["lines"].get(kind) for kind in ("whole", "call", "in_a_row", "launch"))
        ]
        goal = f" (to reach: {row['to_reach']:.0f})" if "to_reach" in row else ""
        last = f"{row['steps'][-1]} steps: {row['microseconds']['whole'][-1]:.0f}{goal}"
        lines.append([row["name"], row["way"], *cells, last])
    header = [
        "µs of n steps",
        "way",
        "an epoch",
        "its call alone",
        "one of many in a row",
        "its launch on the device",
        "measured, of steps",
    ]
    return table(header, lines)


def nccl(content: dict[str, Any]) -> str:
    """Return the table of steps with and without the sum over ranks."""
    ways = ("alone", "with the sum", "not captured")
    lines = [
        [row["name"], *(f"{row['microseconds'][way]:.1f}" for way in ways), f"{row['distance']:.1e}"]
        for row in rows_of(content, "nccl")
    ]
    return table(["µs a step, one rank", "without a sum", "with NCCL's", "the same, not captured", "apart by"], lines)


def mnist(content: dict[str, Any]) -> str:
    lines = [
        [row["name"], f"{row['seconds']:.2f}", f"{row['accuracy']:.2%}", f"{row['way']}, {row['epochs']} epochs"]
        for row in rows_of(content, "mnist")
    ]
    return table(["784-100-10 on MNIST", "seconds", "test accuracy", "way"], lines)


def checks(content: dict[str, Any]) -> str:
    """Return the table of parts that measure no time: how each ended, and what it found."""
    lines = []
    for part in ("tests", "sanitizer", "bits", "memory"):
        entry = content["parts"].get(part)
        if entry is None:
            lines.append([part, "left out", content["left_out"].get(part, "")])
            continue
        said = entry.get("why", "")
        if part == "tests":
            counts: dict[str, Any] = next((row for row in entry["rows"] if row["name"] == "counts"), {})
            said = ", ".join(
                f"{counts[key]} {key}" for key in ("passed", "failed", "errors", "skipped") if key in counts
            )
        elif part == "bits":
            said = ", ".join(f"{row['name']} {row['ulp']:.2f} ulp" for row in entry["rows"])
        elif part == "sanitizer":
            broken = sum("tool_failed" in row for row in entry["rows"])
            clean = sum(not row["exit"] and "tool_failed" not in row for row in entry["rows"])
            said = f"{clean} of {len(entry['rows'])} clean" + (f", the tool failed in {broken}" if broken else "")
        elif part == "memory":
            said = f"{sum('failed' not in row for row in entry['rows'])} of {len(entry['rows'])} ways flat"
        lines.append([part, entry["status"], said])
    return table(["check", "status", "found"], lines)


#: Headings and tables, in the order of printing.
SECTIONS = {
    "Microseconds a step": peers,
    "Limits of the device, and elementwise kernels": ceilings,
    "Many networks at once": members,
    "What an epoch costs": epochs,
    "The sum over ranks": nccl,
    "MNIST": mnist,
    "Checks": checks,
}


def markdown(content: dict[str, Any]) -> str:
    device, versions = content["device"], content["machine"]["versions"]
    named = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    head = f"{device['name']}, {content['date']} ({named}); `{content['command']}`\n"
    return "\n".join([head, *(f"**{title}**\n\n{make(content)}" for title, make in SECTIONS.items())])
