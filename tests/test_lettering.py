"""Names in figures are shown as they are, whatever they are."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from tasks import lettering
from tasks.lettering import literal


def drawn(text: str, path: Path) -> np.ndarray:
    figure = Figure((4, 1))
    figure.text(0.05, 0.4, text)
    figure.savefig(path)
    return np.asarray(Image.open(path).convert("L"))


@pytest.fixture
def plain_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with Matplotlib's own fonts only."""
    own = [font for font in lettering.fontManager.ttflist if "mpl-data" in font.fname]
    monkeypatch.setattr(lettering.fontManager, "ttflist", own)
    monkeypatch.setitem(mpl.rcParams, "font.family", ["sans-serif"])
    lettering._shown.cache_clear()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "name", ["$5_$10", "$a$", r"\$x^2$", "a$", "x_1^2", "100 %", "{}", "قطة", "кот", "γάτα", "café"]
)
def test_names_are_no_formulas(name: str, tmp_path: Path, plain_machine: None) -> None:
    expected = Figure((4, 1))
    expected.text(0.05, 0.4, name, parse_math=False)
    expected.savefig(tmp_path / "plain.png")
    plain = np.asarray(Image.open(tmp_path / "plain.png").convert("L"))
    assert np.array_equal(drawn(literal(name), tmp_path / "drawn.png"), plain)


@pytest.mark.filterwarnings("error")
def test_what_no_font_has_is_told_by_its_code(tmp_path: Path, plain_machine: None) -> None:
    assert literal("猫 cat") == r"\u732b cat"
    assert literal("\ue000") == r"\ue000" and literal("a\tb\nc") == "a\\tb\nc"
    assert literal("ok\ufe0f") == "ok"
    assert drawn(literal("猫"), tmp_path / "code.png").min() < 100


@pytest.mark.filterwarnings("error")
def test_a_font_of_the_machine_is_used_where_it_has_the_character(
    tmp_path: Path, plain_machine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = {lettering.findfont(lettering.FontProperties(family=["sans-serif"]))}
    known = lettering._characters
    monkeypatch.setattr(lettering, "_characters", lambda file: known(file) - ({0x416} if file in missing else set()))
    assert literal("Ж") == "Ж"
    assert mpl.rcParams["font.family"][0] == "sans-serif" and "DejaVu" in mpl.rcParams["font.family"][1]
