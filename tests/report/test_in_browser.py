"""The report in a browser: Debian's Chromium without a screen, as wide as a desk and as a phone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.report.page import page
from tests.report.runs import facts

pytestmark = [pytest.mark.slow, pytest.mark.chromium]
ROOT = Path(__file__).parents[2]
WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield started
        started.close()


def look(browser, path: Path, width: int) -> dict[str, object]:  # type: ignore[no-untyped-def]
    """What a browser says of a page."""
    shown = browser.new_page(viewport={"width": width, "height": 900})
    said: list[str] = []
    asked: list[str] = []
    shown.on("console", lambda message: said.append(message.text))
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.on("request", lambda request: asked.append(request.url))
    shown.goto(path.as_uri())
    beyond = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    broken = "[...document.images].filter(image => !image.naturalWidth).length"
    found = {"beyond": shown.evaluate(beyond), "broken": shown.evaluate(broken), "said": said}
    shown.close()
    return found | {"asked": [url for url in asked if not url.startswith(("data:", path.as_uri()))]}


SOUND = {"beyond": 0, "broken": 0, "said": [], "asked": []}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "classes", [("ant", "bee"), tuple(f"a rather long name of a class, {c}" for c in range(60))], ids=["few", "many"]
)
def test_a_page_fits_and_shows_every_picture(browser, tmp_path: Path, classes: tuple[str, ...], width: int) -> None:  # type: ignore[no-untyped-def]
    (path := tmp_path / "report.html").write_text(page(facts(tmp_path, classes, compared=True)), encoding="utf-8")
    assert look(browser, path, width) == SOUND


def test_the_report_of_a_real_run_fits_and_is_the_one_that_the_command_opens(browser, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "MLFLOW_"))}

    def headstart(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-P", "-m", "flows.cli", *arguments], cwd=tmp_path, text=True, capture_output=True,
            timeout=600, check=True, env=kept | {"HEADSTART_WORKSPACE": str(tmp_path), "PYTHONPATH": str(ROOT)},
        ).stdout  # fmt: skip

    try:
        headstart("run", str(ROOT / "configs" / "digits.yaml"), "-q")
        headstart("run", str(ROOT / "configs" / "digits.yaml"), "-q", "-s", "train.method=ridge")
        for arguments in ((), ("digits",), ("digits@1",), ("digits", "--versions", "1", "2")):
            path = Path(headstart("report", *arguments).strip())
            assert path.stat().st_size < 5e6
            assert [look(browser, path, width) for width in WIDTHS] == [SOUND, SOUND]
        headstart("report", "digits@2", "-o", "kept.html")
        assert "digits version 2" in (tmp_path / "kept.html").read_text().replace('<span class="soft">', "")
    finally:
        headstart("ui", "--stop")
