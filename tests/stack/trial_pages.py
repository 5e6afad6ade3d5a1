"""The servers' pages in a browser that logs in as a person does; a picture of each is kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import Error as BrowserError

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "build" / "stack-test"
_WAIT_MILLISECONDS = 60_000


@contextmanager
def browser() -> Iterator[Browser]:
    """Debian's chromium, without a screen."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("no browser: sudo apt-get install chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield opened
        finally:
            opened.close()


def _see(page: Page, name: str, expected: str) -> str:
    PICTURES.mkdir(parents=True, exist_ok=True)
    picture = PICTURES / f"{name}.png"
    try:
        page.get_by_text(expected).first.wait_for(timeout=_WAIT_MILLISECONDS)
    except BrowserError as error:
        page.screenshot(path=picture)
        raise SystemExit(f"page {name}: expected {expected!r} to be seen; see {picture}: {error}") from None
    page.screenshot(path=picture)
    return str(picture.relative_to(ROOT))


def mlflow_page(opened: Browser, url: str, user: str, password: str, path: str, expected: str) -> str:
    """Opens a page of MLflow with its user's password, looks for a text, and returns the picture's path."""
    context = opened.new_context(
        http_credentials={"username": user, "password": password}, viewport={"width": 1400, "height": 900}
    )
    page = context.new_page()
    page.goto(f"{url}/{path}")
    return _see(page, "mlflow-" + path.strip("#/").replace("/", "-"), expected)


def prefect_pages(opened: Browser, url: str, secret: str, run: str) -> list[str]:
    """Logs in as Prefect's page asks for it, looks at deployments and at a retraining; returns the pictures' paths."""
    page = opened.new_context(viewport={"width": 1400, "height": 900}).new_page()
    page.goto(f"{url}/deployments")
    field = page.locator("input[type=password]")
    field.wait_for(timeout=_WAIT_MILLISECONDS)
    field.fill(secret)
    field.press("Enter")
    field.wait_for(state="detached", timeout=_WAIT_MILLISECONDS)
    page.goto(f"{url}/deployments")
    seen = [_see(page, "prefect-deployments", "propose-retraining")]
    page.goto(f"{url}/runs/flow-run/{run}")
    page.get_by_text("Artifacts", exact=True).last.click()
    seen.append(_see(page, "prefect-run", "retrain-attention"))
    page.get_by_text("retrain-attention").last.click()
    page.locator("img[src^='data:image/png']").wait_for(timeout=_WAIT_MILLISECONDS)
    return [*seen, _see(page, "prefect-attention", "retrain-attention")]
