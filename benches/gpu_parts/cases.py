"""The networks whose steps are measured, most valuable first."""

from collections.abc import Sequence

from ..contestants import Case

#: Widths, minibatch, steps an epoch.
SHAPES = [
    ((784, 100, 10), 128, 400),
    ((784, 30, 10), 10, 1000),
    ((64, 32, 1), 32, 1000),
    ((784, 512, 512, 10), 128, 300),
    ((784, 2500, 2000, 1500, 1000, 500, 10), 256, 60),
    ((4096,) * 6, 8192, 4),
]
#: The cases that are small enough for the CPU, and their numbers of steps.
REHEARSED, STEPS = (1, 2), 5
PRECISIONS = ("fp32", "tf32", "bf16")
#: The most telling rows, in order; the others follow. Networks that stay in shared memory have one precision.
FIRST = [(0, "fp32"), (1, "fp32"), (2, "fp32"), (3, "fp32"), (4, "fp32"), (5, "bf16"), (3, "tf32"), (3, "bf16")]
FIRST += [(4, "bf16"), (4, "tf32"), (5, "tf32"), (0, "bf16"), (0, "tf32"), (5, "fp32")]


def name_of(sizes: Sequence[int]) -> str:
    return "-".join(map(str, sizes))


def find_cases(wanted: Sequence[str]) -> list[int]:
    """Return the numbers of cases named by number or widths, or of all if none is named.

    Raises
    ------
    ValueError
        If a name is no case.
    """
    names = [name_of(sizes) for sizes, _, _ in SHAPES]
    found = []
    for each in wanted:
        if each in names:
            found.append(names.index(each))
        elif each.isdecimal() and int(each) < len(names):
            found.append(int(each))
        else:
            numbered = ", ".join(f"{number} ({name})" for number, name in enumerate(names))
            raise ValueError(f"--cases: expected some of {numbered}, got {each!r}")
    return found or list(range(len(names)))


def in_order(numbers: Sequence[int], precisions: Sequence[str]) -> list[tuple[int, str]]:
    """Return the rows of some cases and precisions, most valuable first."""
    rows = [(number, precision) for precision in precisions for number in numbers]
    return sorted(rows, key=lambda row: FIRST.index(row) if row in FIRST else len(FIRST))


def make_case(number: int, *, rehearse: bool) -> Case:
    sizes, batch, steps = SHAPES[number]
    return Case(sizes, batch, STEPS if rehearse else steps)
