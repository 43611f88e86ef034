"""The networks that steps are measured on, in the order of their worth."""

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
#: The cases that are small enough to be tried on the CPU, and with how many steps.
REHEARSED, STEPS = (1, 2), 5
PRECISIONS = ("fp32", "tf32", "bf16")


def name_of(sizes: Sequence[int]) -> str:
    return "-".join(map(str, sizes))


def find_cases(wanted: Sequence[str]) -> list[int]:
    """The numbers of the cases that are named, by their number or their widths; of all where none is.

    Raises
    ------
    ValueError
        If one is no case.
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


def make_case(number: int, *, rehearse: bool) -> Case:
    sizes, batch, steps = SHAPES[number]
    return Case(sizes, batch, STEPS if rehearse else steps)
