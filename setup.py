"""The wheel: the folders of the checkout below one package, since site-packages is everybody's.

In a checkout (``pip install -e .``) the code is imported as `tasks` and `flows`, from a wheel as `headstart.tasks` and
`headstart.flows`. All else is in pyproject.toml.
"""

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel

sys.path.insert(0, str(Path(__file__).parent))

from tasks.relocation import rename_imports

NAMES = {"flows": "headstart.flows", "tasks": "headstart.tasks"}


class Wheel(bdist_wheel):
    """Moves what is to be packed, when all of it is there."""

    def write_wheelfile(self, wheelfile_base: str, *generator: str) -> None:
        super().write_wheelfile(wheelfile_base, *generator)
        root = Path(self.bdist_dir)
        if not all((root / name).is_dir() for name in NAMES):  # an editable install
            return
        (root / "headstart").mkdir()
        for name in NAMES:
            (root / name).rename(root / "headstart" / name)
        rename_imports(root / "headstart", NAMES)
        commands = Path(wheelfile_base, "entry_points.txt")
        commands.write_text(commands.read_text().replace("= flows.", "= headstart.flows."))


setup(cmdclass={"bdist_wheel": Wheel})
