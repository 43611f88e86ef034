"""Parts of a date, as `parts_of` has them, in ONNX operators on whole seconds since 1970."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from deltaprop.files.onnx_file import Graph

#: What stands for a gap among whole seconds; NumPy has the same number for NaT.
GAP = np.iinfo(np.int64).min
DAY = 86_400
#: The calendar repeats after 400 years. So many times that are added, for no date to lie before the beginning.
CYCLE_DAYS, CYCLES = 146_097, 1000
#: Days from 1 March of the year 0 to 1 January 1970.
MARCH_0 = 719_468


class DateParts:
    """The parts of one column of dates; each is added to the graph when it is first asked for.

    Parameters
    ----------
    graph : Graph
        Where operators are added.
    seconds : str
        The name of whole seconds since 1970, (m, 1) of int64.
    """

    def __init__(self, graph: Graph, seconds: str) -> None:
        self.graph = graph
        self.gap: str = graph.node("Equal", [seconds, self._number(GAP)])
        self.seconds: str = graph.node("Where", [self.gap, self._number(0), seconds])
        self.in_day: str = self._of("Mod", self.seconds, DAY)
        self.days: str = self._of("Div", graph.node("Sub", [self.seconds, self.in_day]), DAY)
        self._calendar: dict[str, str] = {}

    def part(self, name: str) -> str:
        """Return the name of a part, (m, 1) of float64, with NaN for a gap."""
        makers: dict[str, Callable[[], str]] = {
            "year": lambda: self._float(self.calendar["year"]),
            "month": lambda: self._float(self.calendar["month"]),
            "day": lambda: self._float(self.calendar["day"]),
            "weekday": lambda: self._float(self._of("Mod", self._of("Add", self.days, 3), 7)),  # 1970: a Thursday
            "hour": lambda: self._share(self.in_day, 3600),
            "time": lambda: self._share(self.seconds, DAY),
        }
        nothing = self.graph.number(np.nan, np.float64)
        return self.graph.node("Where", [self.gap, nothing, makers[name]()])

    @property
    def calendar(self) -> dict[str, str]:
        """The year, the month and the day, (m, 1) of int64.

        Years begin with March here, so that the leap day is the last: in each of five months from March or August on,
        153 days pass, and day d of such a year is in month ⌊(5d + 2)/153⌋.
        """
        if not self._calendar:
            of, node = self._of, self.graph.node
            days = of("Add", self.days, MARCH_0 + CYCLES * CYCLE_DAYS)
            cycle, day = of("Div", days, CYCLE_DAYS), of("Mod", days, CYCLE_DAYS)
            # Days without the leap days before: each fourth year has one, but of hundreds only the fourth.
            ordinary = node("Sub", [day, of("Div", day, 1460)])
            ordinary = node("Add", [ordinary, of("Div", day, 36_524)])
            year = of("Div", node("Sub", [ordinary, of("Div", day, CYCLE_DAYS - 1)]), 365)
            before = node("Add", [of("Mul", year, 365), of("Div", year, 4)])
            in_year = node("Sub", [day, node("Sub", [before, of("Div", year, 100)])])
            month = of("Div", of("Add", of("Mul", in_year, 5), 2), 153)
            first = of("Div", of("Add", of("Mul", month, 153), 2), 5)
            early = node("Less", [month, self._number(10)])  # March to December
            march_years = node("Add", [of("Mul", cycle, 400), year])
            january_years = node("Where", [early, march_years, of("Add", march_years, 1)])
            self._calendar = {
                "year": of("Add", january_years, -400 * CYCLES),
                "month": node("Where", [early, of("Add", month, 3), of("Add", month, -9)]),
                "day": of("Add", node("Sub", [in_year, first]), 1),
            }
        return self._calendar

    def _number(self, value: int) -> str:
        return self.graph.number(value, np.int64)

    def _of(self, operator: str, value: str, number: int) -> str:
        """Add an operator on a value and a whole number."""
        return self.graph.node(operator, [value, self._number(number)])

    def _float(self, value: str) -> str:
        return self.graph.cast(value, np.float64)

    def _share(self, value: str, number: int) -> str:
        return self.graph.node("Div", [self._float(value), self.graph.number(number, np.float64)])
