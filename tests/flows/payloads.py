"""Requests as people send them to a served model, and what each is answered."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.ingest.pictures import bomb


def answered(file: Path) -> Iterator[dict[str, Any]]:
    """Bodies that all say the same: classify this one image."""
    content = file.read_bytes()
    plain = base64.b64encode(content).decode()
    dialects = [
        base64.urlsafe_b64encode(content).decode(), base64.encodebytes(content).decode(), plain.rstrip("="),
        f"data:image/png;base64,{plain}",
    ]  # fmt: skip
    yield from ({"inputs": [text]} for text in dialects)
    yield from ({key: rows} for key in ("instances", "inputs") for rows in ([plain], [{"image": plain}]))
    yield {"dataframe_split": {"index": [7], "columns": ["id", "image"], "data": [[7, plain]]}}
    yield {"dataframe_records": [{"image": plain, "path": "x"}]}
    yield {"instances": [{"image": {"b64": plain}}]}
    yield {"inputs": plain}
    yield {"inputs": {"image": [plain]}}


def refused(file: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Bodies that cannot be answered, and how the line begins that says so."""
    plain = base64.b64encode(file.read_bytes()).decode()
    for nothing in (None, 5, "", "hello", "/etc/hostname", str(file), "http://127.0.0.1:1/x.png", [[1, 2]]):
        yield {"inputs": [nothing]}, "row 0: "
    for top_k in (0, -1):
        yield {"inputs": [plain], "params": {"top_k": top_k}}, f"top_k is {top_k}: "
    yield {"inputs": [plain], "params": {"top_k": "three"}}, "Failed to predict"  # MLflow's own line
    yield (
        {"dataframe_split": {"columns": ["id", "photo"], "data": [[7, plain]]}},
        "images are read from a column 'image'",
    )
    yield {"inputs": []}, "images are read from a column 'image'"
    yield {"inputs": [base64.b64encode(bomb(13_000, 13_000)).decode()]}, "row 0: the input is too large: 13000×13000"
    yield {"inputs": [base64.b64encode(b"\x89PNG" + bytes(45_000_000)).decode()]}, "row 0: the input cannot be decoded"
