"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="Pipeline configuration (YAML); configs/ has examples.")
]
Overrides = Annotated[
    list[str], typer.Option("--set", "-s", metavar="KEY=VALUE", help="Override a key, e.g. -s train.epochs=5.")
]
Replace = Annotated[
    bool,
    typer.Option("--replace", help="Take the place of a data.dvc of yours, which is kept as data.dvc.replaced."),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Registered model.")]
