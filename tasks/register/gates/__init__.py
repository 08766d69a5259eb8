"""All gates: what ``register.gates`` can name. A new one is a file beside this one and a line here (docs/gates.md)."""
# ruff: noqa: F401

from __future__ import annotations

from tasks.register.gates.calibration import Calibration
from tasks.register.gates.champion import Champion
from tasks.register.gates.chance import Chance
from tasks.register.gates.checks import Checks
from tasks.register.gates.fairness import Fairness
from tasks.register.gates.latency import LatencyLimit
from tasks.register.gates.leak import LeakCheck
from tasks.register.gates.parity import Parity
from tasks.register.gates.robustness import Robustness
from tasks.register.gates.size import Size
from tasks.register.gates.slices import Slices
from tasks.register.gates.tasks import Tasks
from tasks.register.gating import Gate

GATES: dict[str, type[Gate]] = {
    kind.model_fields["gate"].default: kind
    for kind in list(globals().values())
    if isinstance(kind, type) and issubclass(kind, Gate) and kind is not Gate
}

ALWAYS: tuple[Gate, ...] = (Chance(), Champion(), LeakCheck(), Parity())
"""Those that stand whether they are named or not, as they are unless they are named with other keys; with further tasks
also `tasks`."""
