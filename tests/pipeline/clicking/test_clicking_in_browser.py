"""The page in a browser: by mouse, by keyboard alone, in the dark, on a phone, and after Ctrl-C."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from clicked_arms import ENDS, Arms, recorded_arms
from clicked_bench import EMBODIMENT, HEIGHT, WIDTH, Bench
from posa_command import command, environment

from posa_vla.dataset.calibration.clicks_file import read_clicks
from posa_vla.episodes.calibration import load_calibration

if TYPE_CHECKING:
    from playwright.sync_api import Page

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [pytest.mark.long, pytest.mark.skipif(BROWSER is None, reason="no browser: sudo apt-get install chromium")]


@contextmanager
def clicking(
    dataset: Bench | Arms, home: Path, *roles: str, robot: tuple[str, str] = ("--embodiment", EMBODIMENT)
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, and the address that it says."""
    asked = [argument for role in roles for argument in ("--click", role)]
    process = subprocess.Popen(
        command("data", "calibrate", str(dataset.folder), *robot, "--out", "cal.yaml", *asked),
        env=environment(home / ".posa"),
        cwd=home,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    # A command that never says its address is ended, and with it the loop below.
    late = threading.Timer(120, process.kill)
    late.start()
    try:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            found = re.search(r"http://127\.0\.0\.1:\d+/[\w-]+/", line)
            if found:
                yield process, found[0]
                break
        else:
            raise AssertionError("".join(said))
    finally:
        late.cancel()
        process.kill()
        process.communicate()


@pytest.fixture
def opened() -> Iterator[Callable[..., Page]]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        complaints: list[str] = []

        def page(address: str, **options: Any) -> Page:
            made = browser.new_page(**options)
            made.on("console", lambda message: complaints.append(message.text))
            made.on("pageerror", lambda error: complaints.append(str(error)))
            made.goto(address)
            made.wait_for_selector("#clicking:not([hidden]), #judging:not([hidden])")
            return made

        yield page
        browser.close()
        assert complaints == []


def changed(page: Page, do: Callable[[], None]) -> None:
    """Does something, and waits until the page shows what came of it."""
    before = page.evaluate("JSON.stringify(state)")
    do()
    page.wait_for_function("before => !busy && JSON.stringify(state) !== before", arg=before)


def by_keyboard(page: Page, u: float, v: float) -> None:
    """Moves the crosshair there by the arrow keys, and clicks."""
    for away, less, more in (
        (u - page.evaluate("at[0]"), "Left", "Right"),
        (v - page.evaluate("at[1]"), "Up", "Down"),
    ):
        steps = round(abs(away))
        for key in ["Shift+Arrow"] * (steps // 10) + ["Arrow"] * (steps % 10):
            page.keyboard.press(key + (more if away > 0 else less))
    changed(page, lambda: page.keyboard.press("Enter"))


def click(page: Page, bench: Bench, *, keyboard: bool) -> None:
    """Clicks the tip in the picture that is shown, or skips it."""
    role, of = page.evaluate("state.role"), page.evaluate("state.target")
    frame = tuple(page.evaluate("state.frames[current].frame"))
    u, v = bench.pixel(role, frame, of)
    if not bench.shows(role, frame, of):
        changed(page, lambda: page.keyboard.press("s"))
    elif keyboard:
        by_keyboard(page, u, v)
    else:
        box = page.locator("#image").bounding_box()
        assert box is not None
        across, down = box["x"] + u / WIDTH * box["width"], box["y"] + v / HEIGHT * box["height"]
        changed(page, lambda: page.mouse.click(across, down))


def click_all(page: Page, bench: Bench, *, keyboard: bool = False) -> None:
    for _ in range(40):
        if page.evaluate("state.phase") != "click":
            return
        click(page, bench, keyboard=keyboard)
    raise AssertionError("the clicks are never judged")


def loaded(page: Page) -> None:
    """Waits for all pictures: the command ends with the last camera, and answers nothing afterwards."""
    page.wait_for_function("() => [...document.images].every(image => image.complete)")


def accept(page: Page) -> None:
    loaded(page)
    page.click("#accept")


def test_a_camera_is_clicked_and_accepted_by_keyboard_alone(bench: Bench, tmp_path: Path, opened) -> None:
    with clicking(bench, tmp_path, "head") as (process, address):
        page = opened(address)
        assert page.evaluate("document.activeElement.id") == "picture"
        click(page, bench, keyboard=True)
        page.keyboard.press("u")
        page.wait_for_function("() => state.frames.every(frame => !frame.click)")
        click_all(page, bench, keyboard=True)
        assert "The camera is found" in page.inner_text("#verdict")
        assert page.evaluate("document.activeElement.id") == "verdict"
        loaded(page)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "accept"
        page.keyboard.press("Enter")
        page.wait_for_selector("#done:not([hidden])")
        assert "has head" in page.inner_text("#outcome")
        assert process.wait(30) == 0
    camera = load_calibration(tmp_path / "cal.yaml", ["head", "wrist"]).cameras["head"]
    assert camera.found is not None
    assert (camera.found.how, camera.found.used) == ("clicked", 10)


def test_ctrl_c_and_a_closed_browser_lose_nothing_and_the_hand_s_camera_is_found(
    bench: Bench, tmp_path: Path, opened
) -> None:
    with clicking(bench, tmp_path, "wrist") as (process, address):
        page = opened(address)
        click_all(page, bench)
        accept(page)
        page.wait_for_function("() => state.step === 1 && !busy")
        for _ in range(3):
            click(page, bench, keyboard=False)
        loaded(page)
        page.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    before = read_clicks(tmp_path / "cal.clicks.json")
    assert len(before.clicks) + len(before.skipped) == 4
    assert load_calibration(tmp_path / "cal.yaml", ["head", "wrist"]).cameras["wrist"].end_effector_pixel is not None
    with clicking(bench, tmp_path, "wrist") as (process, address):
        page = opened(address)
        assert page.evaluate("state.phase") == "judge"
        accept(page)
        page.wait_for_function("() => state.step === 1 && !busy")
        clicked = [frame["frame"] for frame in page.evaluate("state.frames") if frame["click"]]
        assert clicked == [[c.episode, c.frame] for c in before.clicks if c.of == "place"]
        click_all(page, bench)
        accept(page)
        assert process.wait(30) == 0
    camera = load_calibration(tmp_path / "cal.yaml", ["head", "wrist"]).cameras["wrist"]
    assert camera.end_effector_from_camera is not None


def test_the_page_says_whose_tip_of_two_arms_and_who_took_the_other_is_told(tmp_path: Path, opened) -> None:
    arms = recorded_arms(tmp_path / "dataset")
    with clicking(arms, tmp_path, "head", robot=("--arm", "aloha")) as (process, address):
        page = opened(address)
        for number in range(10):
            told = page.evaluate("state.frames[current]")
            assert page.inner_text(".whose") == told["end_effector"]
            assert f"of the {told['end_effector']} gripper, and of no other" in page.inner_text("#task")
            whose = f"Picture {number + 1} of 10, {told['end_effector']} gripper"
            assert page.inner_text("#said").startswith(whose)
            assert (page.get_attribute("#picture", "aria-label") or "").startswith(whose)
            end = ENDS.index(told["end_effector"])
            by_keyboard(page, *arms.pixel("head", told["frame"], 1 - end if number == 3 else end))
        page.wait_for_selector("#judging:not([hidden])")
        assert "click 4 is where the tip of right is: left was asked for" in page.inner_text("#verdict")
        assert "left gripper" in page.inner_text("#clicked .rejected")
        loaded(page)
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_selector("#done:not([hidden])")
        assert process.wait(30) == 0
    camera = load_calibration(tmp_path / "cal.yaml", ["head"], ENDS).cameras["head"]
    assert camera.found is not None
    assert (camera.found.how, camera.found.events, camera.found.used) == ("clicked", 10, 9)
    assert {click.end_effector for click in read_clicks(tmp_path / "cal.clicks.json").clicks} == set(ENDS)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_and_says_why_it_refuses(bench: Bench, tmp_path: Path, opened, scheme: str) -> None:
    with clicking(bench, tmp_path, "head") as (process, address):
        page = opened(address, viewport={"width": 400, "height": 800}, color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == 400
        # The same place in every picture, and a picture that is not clicked at all.
        for _ in range(9):
            changed(page, lambda: page.keyboard.press("Enter"))
        page.click("#find")
        page.wait_for_selector("#judging:not([hidden])")
        assert "one place of the picture" in page.inner_text("#verdict")
        assert not page.is_visible("#accept")
        assert page.evaluate("document.documentElement.scrollWidth") == 400
        colours = page.evaluate("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
        ink, paper = [sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(","))) for colour in colours]
        assert (ink < paper) == (scheme == "light")
        page.click("#again")
        page.wait_for_selector("#clicking:not([hidden])")
        loaded(page)
        page.click("#leave")
        page.wait_for_selector("#done:not([hidden])")
        assert process.wait(30) == 2
    assert not (tmp_path / "cal.yaml").exists()
