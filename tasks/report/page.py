"""From facts to HTML: one file that asks for nothing else, without scripts."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tasks.report.choice import choice
from tasks.report.errors import errors
from tasks.report.facts import LESS, Facts
from tasks.report.insight import explanation, robustness, shift
from tasks.report.origin import cost, data, lineage, method
from tasks.report.overview import comparison, verdict
from tasks.report.quality import calibration, further, metrics, slices
from tasks.wording import IN_UNITS, counted, quantity

SECTIONS: tuple[tuple[str, str, Callable[[Facts], dict[str, Any] | None]], ...] = (
    ("verdict", "Verdict", verdict),
    ("comparison", "Against the champion", comparison),
    ("metrics", "Figures", metrics),
    ("further", "Further tasks", further),
    ("errors", "Errors", errors),
    ("slices", "Slices", slices),
    ("calibration", "Calibration", calibration),
    ("explanation", "Explanation", explanation),
    ("robustness", "Robustness", robustness),
    ("shift", "Shift", shift),
    ("data", "Data", data),
    ("method", "Method", method),
    ("choice", "Choice", choice),
    ("cost", "Cost", cost),
    ("lineage", "Make it again", lineage),
)
"""In the order of the page: template, title, and what it is filled with; None: there is nothing to tell."""


WORDS = {
    "mae": "mean absolute error", "rmse": "root mean squared error", "r2": "R²", "nll": "negative log-likelihood",
    "coverage_90": "within the 90% interval",
}  # fmt: skip
"""Names of figures of numbers."""


def page(facts: Facts) -> str:
    """The report of a run."""
    filled = [(name, title, fill(facts)) for name, title, fill in SECTIONS]
    made = datetime.fromtimestamp(facts.evaluation.made).astimezone().strftime("%d %B %Y, %H:%M %Z")
    return render("report.html", facts=facts, made=made, sections=[each for each in filled if each[2] is not None])


def render(template: str, **values: Any) -> str:
    """A template of this package, filled."""
    return _environment().get_template(template).render(**values)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.globals["LESS"] = LESS
    environment.filters |= {
        "figure": _figure, "signed": _signed, "words": _words, "mega": _mega, "p": _p, "told": _told, "gained": _gained,
        "number": _number, "counted": counted
    }  # fmt: skip
    return environment


def _figure(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"


def _told(value: float | None, name: str, unit: str = "") -> str:
    """A figure by its name: errors are in the unit of the number."""
    if value is not None and name in IN_UNITS:
        return quantity(value, unit)
    return _figure(value)


def _gained(value: float | None, name: str) -> str:
    """A difference of a figure, with its sign."""
    if value is None or name not in IN_UNITS or math.isnan(value):
        return _signed(value)
    return quantity(0 + value).replace("-", "−") if value <= 0 else f"+{quantity(value)}"


def _number(value: object, unit: str = "") -> object:
    """A label as it is; a number, which a table may have kept as text, with the digits that count."""
    with suppress(ValueError, TypeError):
        return quantity(float(value), unit)  # type: ignore[arg-type]
    return value


def _signed(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "–"
    return f"{value:+.4f}".replace("-", "−") if abs(value) >= 0.00005 else "0.0000"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _words(name: str) -> str:
    """A figure's name as a person reads it."""
    start, _, rest = name.partition(" ")  # of a figure that has its split before it
    known = WORDS | {
        "ece": "calibration error",
        "ace": "adaptive calibration error",
        "aurc": "AURC",
        "brier": "Brier score",
    }
    name = f"{start} {known.get(rest, rest)}" if rest else known.get(name, name)
    for short, long in (("roc_auc", "ROC AUC"), ("top5", "top-5"), ("f1", "F1"), ("_", " ")):
        name = name.replace(short, long)
    return name


def _mega(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
