"""Which parts there are, in the order of their worth, what each may take, and what a part is asked."""

import json
from dataclasses import asdict, dataclass, field
from typing import Self

#: How many seconds a part keeps back of its own, to end by itself before it is ended.
SPARE = 2.0


@dataclass(frozen=True)
class Part:
    """One module of this package.

    Attributes
    ----------
    least : float
        Seconds below which it is not begun.
    most : float
        Seconds after which it is ended.
    timed : bool
        Whether it measures time, so that nothing may run beside it.
    resumes : bool
        Whether it goes on in another process where it broke off, without what broke it.
    """

    name: str
    least: float
    most: float
    timed: bool
    resumes: bool = False


PARTS = {
    part.name: part
    for part in (
        Part("tests", 30, 180, timed=False),
        Part("sanitizer", 20, 180, timed=False),
        Part("bits", 10, 90, timed=False),
        Part("memory", 10, 90, timed=False),
        Part("ceilings", 8, 40, timed=True),
        Part("members", 8, 40, timed=True),
        Part("epochs", 8, 40, timed=True),
        Part("mnist", 8, 40, timed=True),
        Part("peers", 15, 3600, timed=True, resumes=True),
        Part("trace", 15, 90, timed=True),
    )
}
#: What runs where nothing is named: `trace` has to be asked for.
USUAL = [name for name in PARTS if name != "trace"]


@dataclass
class Options:
    """What the process of a part is told.

    Attributes
    ----------
    seconds : float
        How long it may take.
    mnist : str or None
        The folder with the four files.
    cases : list of str
        Numbers of cases of `peers`, or networks as ``784-30-10``; all where empty.
    precisions : list of str
    rehearse : bool
        On the CPU, at small sizes, whose figures mean nothing.
    avoid : dict of str to str
        What broke a former process of this part, and how.
    done : list of str
        The rows that former processes have told.
    """

    seconds: float
    mnist: str | None = None
    cases: list[str] = field(default_factory=list)
    precisions: list[str] = field(default_factory=lambda: ["fp32", "tf32", "bf16"])
    rehearse: bool = False
    avoid: dict[str, str] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)

    def dumps(self) -> str:
        """As text for a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> Self:
        """From such text."""
        return cls(**json.loads(text))
