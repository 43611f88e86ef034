"""Streams and events of the CUDA backend, copies that the host does not wait for, and CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from deltaprop.backends.array_types import AnyArray as Array
from deltaprop.backends.array_types import HostArray
from deltaprop.backends.cuda.launching import Launching
from deltaprop.backends.cuda.thread_state import Aside
from deltaprop.backends.device import Event, Graph, Stream

#: The name of graphs in warnings.
GRAPHS = "capturing a step as a CUDA graph"


@dataclass
class Captured:
    """A graph, and the scratch whose addresses it holds."""

    graph: Graph
    scratch: list[Array]

    def launch(self, stream: Stream) -> None:
        """Run the graph on `stream`."""
        self.graph.launch(stream)

    def drop(self) -> None:
        """Destroy the graph; if it is running, once it has ended."""
        self.graph = None


class Streams(Launching):
    """Decides when a launch runs: on which stream, after which event, now or as part of a graph."""

    # -- copies and events --------------------------------------------------------------------------------------

    def upload(self, sources: list[HostArray], targets: list[Array], stream: Stream, after: Event) -> Event:
        stream.wait_event(after)
        for source, target in zip(sources, targets, strict=True):
            target.set(source, stream=stream)
        return stream.record()

    def send(self, source: HostArray, target: Array, event: Event) -> Event:
        stream = self.cp.cuda.get_current_stream()
        target.set(source, stream=stream)
        return stream.record(event or self.cp.cuda.Event(disable_timing=True))

    def event(self) -> Event:
        return self.cp.cuda.get_current_stream().record()

    def wait_on_device(self, event: Event) -> None:
        self.cp.cuda.get_current_stream().wait_event(event)

    def wait_on_host(self, event: Event) -> None:
        if event is not None:
            event.synchronize()

    # -- streams ------------------------------------------------------------------------------------------------

    def new_stream(self) -> Stream:
        return self.cp.cuda.Stream(non_blocking=True)

    def stream_for(self, purpose: str) -> Stream:
        key = (purpose, self.cp.cuda.Device().id)
        if key not in self._here.streams:
            self._here.streams[key] = self.new_stream()
        return self._here.streams[key]

    @contextmanager
    def on_stream(self, stream: Stream) -> Iterator[None]:
        callers = self.cp.cuda.get_current_stream()
        self._after(stream, callers)
        try:
            with stream:
                yield
        finally:
            self._after(callers, stream)

    def _after(self, stream: Stream, other: Stream) -> None:
        """Let `stream` wait for everything launched on `other` so far."""
        self._wait(stream, self._mark(other))

    def _mark(self, stream: Stream) -> Event:
        """Return the event that everything launched on `stream` so far is over."""
        return stream.record(self.cp.cuda.Event(disable_timing=True))

    def _wait(self, stream: Stream, event: Event) -> None:
        """Let `stream` wait for `event`."""
        stream.wait_event(event)

    @contextmanager
    def beside(self, side: Stream) -> Iterator[None]:
        self._here.aside = Aside(side)
        try:
            yield
            self._join()
        finally:
            self._here.aside = None

    def _launch_aside(self, aside: Aside, launches: Iterable[Callable[[], None]]) -> list[Event]:
        """Launch these one after another on the stream beside; return the event of each one's end."""
        self._after(aside.stream, self.cp.cuda.get_current_stream())
        aside.running, ends = True, []
        for launch in launches:
            with aside.stream:
                launch()
            ends.append(self._mark(aside.stream))
        return ends

    def _fork(self) -> None:
        """Launch the weight gradient that is held back, if there is one, on the stream beside."""
        aside = self._here.aside
        if aside is not None and aside.held is not None:
            self._launch_aside(aside, [aside.held])
            aside.held = None

    def _join(self) -> None:
        """Launch it on the current stream, and let that wait for the stream beside."""
        aside = self._here.aside
        if aside is None:
            return
        if aside.held is not None:
            aside.held()
            aside.held = None
        if aside.running:
            self._after(self.cp.cuda.get_current_stream(), aside.stream)
            aside.running = False

    @contextmanager
    def counting(self, step: Array | None) -> Iterator[None]:
        before, self._here.step = self._here.step, step
        try:
            yield
        finally:
            self._here.step = before

    # -- graphs -------------------------------------------------------------------------------------------------

    def capture(self, stream: Stream, body: Callable[[], None]) -> Graph:
        scratch: list[Array] = []
        self._here.captured = scratch
        stream.begin_capture()
        try:
            body()
        except BaseException:
            with suppress(*self.device_errors):  # what is wrong with the capture comes of the error
                stream.end_capture()  # a stream left capturing would refuse everything
            raise
        finally:
            self._here.captured = None
        return Captured(stream.end_capture(), scratch)

    def is_capturing(self) -> bool:
        return bool(self.cp.cuda.get_current_stream().is_capturing())
