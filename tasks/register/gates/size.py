"""A model that fits."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.register.gating import Evidence, Finding, Gate


class Size(Gate):
    """The packaged model is no larger than a limit, without the code that it carries."""

    gate: Literal["size"] = "size"
    megabytes: float = Field(gt=0)
    """Millions of bytes."""

    def measure(self, evidence: Evidence) -> Finding:
        files = (path for path in evidence.bundle.rglob("*") if path.is_file())
        found = sum(path.stat().st_size for path in files) / 1e6
        return Finding(
            found <= self.megabytes, f"the package has {found:,.1f} MB", f"at most {self.megabytes:g} MB",
            f"{found:.1f} MB",
        )  # fmt: skip
