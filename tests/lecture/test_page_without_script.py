"""The explained page in a browser that runs no script."""

import numpy as np
import pytest
from chromium import chromium

import deltaprop as dp


@pytest.mark.parametrize("width", [360, 1280])
def test_tables_stand_where_the_script_would_draw(tmp_path, capsys, width):
    path = tmp_path / "page.html"
    net = dp.Network([8, 8, 3], backend="numpy")
    seen = net.explain(np.linspace(-1, 1, 8), [1, 0, 1])
    seen.save_html(path)
    with chromium() as program:
        tab = program.new_context(java_script_enabled=False, viewport={"width": width, "height": 800}).new_page()
        tab.goto(path.as_uri())
        assert tab.locator("pre").inner_text() == str(seen)
        assert "needs JavaScript" in tab.locator(".notice:visible").inner_text()
        assert not tab.locator("main").is_visible()
        box = tab.locator("pre").bounding_box()  # wide tables scroll in their box, not the page
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
