"""Lists the parts, most valuable first, with their times, and the options of a part."""

import json
from dataclasses import asdict, dataclass, field
from typing import Self

#: Seconds that a part keeps back, to end by itself before it is stopped.
SPARE = 2.0


@dataclass(frozen=True)
class Part:
    """One module of this package.

    Attributes
    ----------
    least : float
        The fewest seconds with which it is started.
    most : float
        Seconds after which it is stopped.
    timed : bool
        Whether it measures time, so that nothing may run beside it.
    resumes : bool
        Whether another process continues where it broke, without the work that broke it.
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
        Part("nccl", 8, 40, timed=True),
        Part("mnist", 8, 40, timed=True),
        Part("peers", 15, 3600, timed=True, resumes=True),
        Part("trace", 15, 90, timed=True),
    )
}
#: The parts that run by default: `trace` must be named.
USUAL = [name for name in PARTS if name != "trace"]


@dataclass
class Options:
    """The options for the process of a part.

    Attributes
    ----------
    seconds : float
        The time that it may take.
    mnist : str or None
        The folder with the four files.
    cases : list of str
        Numbers of cases of `peers`, or networks as ``784-30-10``; if empty, all.
    precisions : list of str
    rehearse : bool
        Whether to run on the CPU at small sizes, whose figures mean nothing.
    avoid : dict of str to str
        The work that broke earlier processes of this part, and how.
    done : list of str
        The rows that earlier processes have sent.
    """

    seconds: float
    mnist: str | None = None
    cases: list[str] = field(default_factory=list)
    precisions: list[str] = field(default_factory=lambda: ["fp32", "tf32", "bf16"])
    rehearse: bool = False
    avoid: dict[str, str] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)

    def dumps(self) -> str:
        """Return the options as text for a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> Self:
        """Read them from such text."""
        return cls(**json.loads(text))
