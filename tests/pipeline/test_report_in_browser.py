"""The page as a browser shows it: on a phone, in the dark, and without a network."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from PIL import Image
from report_facts import facts

from posa_vla.evidence.record import EpisodeRow
from posa_vla.pipeline.report.facts import EpisodeShown
from posa_vla.pipeline.report.page import write_report

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [pytest.mark.long, pytest.mark.skipif(BROWSER is None, reason="no browser: sudo apt-get install chromium")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_shows_its_media_and_asks_no_network(tmp_path: Path, scheme: str) -> None:
    from playwright.sync_api import sync_playwright

    wide = io.BytesIO()
    Image.new("RGB", (2048, 560)).save(wide, format="PNG")
    row = EpisodeRow(scene_seed=2**31 + 7, success=False, steps=40, path_length=0.1)
    episode = EpisodeShown(row=row, champion_success=True, video=None, overlay=wide.getvalue())
    page = write_report(tmp_path, facts(episodes=[episode], recorded=1))
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        shown = opened.new_page(viewport={"width": 400, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]  # of parametrize
        asked: list[str] = []
        complaints: list[str] = []
        shown.on("request", lambda request: asked.append(request.url))
        shown.on("console", lambda message: complaints.append(message.text))
        shown.goto(page.as_uri())
        width = shown.evaluate("document.documentElement.scrollWidth")
        drawn = shown.evaluate("[...document.images].map(i => i.naturalWidth)")
        colours = shown.evaluate("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
        opened.close()
    assert width == 400
    assert len(drawn) == 2
    assert all(drawn)
    assert complaints == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    light = [sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(","))) for colour in colours]
    assert (light[0] < light[1]) == (scheme == "light")
