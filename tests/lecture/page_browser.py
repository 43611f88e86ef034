"""The explained page in a tab of headless Chromium, for tests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chromium import chromium


@dataclass
class Browser:
    """One tab, and what it has complained about or asked the network for."""

    tab: Any
    folder: Path
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def show(self, explanation: Any, width: int = 1280, scheme: str = "light") -> Any:
        """Open the page of an explanation."""
        path = self.folder / "page.html"
        explanation.save_html(path)
        self.tab.set_viewport_size({"width": width, "height": 800})
        self.tab.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        self.tab.goto(path.as_uri())
        self.tab.wait_for_selector("html[data-ready]")
        return self.tab

    def press(self, key: str, times: int = 1) -> None:
        for _ in range(times):
            self.tab.keyboard.press(key)

    @contextmanager
    def content(self) -> Iterator[None]:
        """Check that the page complains about nothing and asks for nothing."""
        self.complaints.clear()
        self.requests.clear()
        yield
        assert self.complaints == []
        assert all(re.match(r"file:.*/page\.html$|about:|data:", url) for url in self.requests)


@contextmanager
def started_browser(folder: Path) -> Iterator[Browser]:
    """Start Chromium; skip the test where it is not installed."""
    with chromium() as program:
        tab = program.new_context().new_page()
        browser = Browser(tab, folder)
        tab.on("console", lambda message: browser.complaints.append(message.text))
        tab.on("pageerror", lambda error: browser.complaints.append(str(error)))
        tab.on("request", lambda request: browser.requests.append(request.url))
        yield browser
