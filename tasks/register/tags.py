"""Names of the tags by which a version says what it is, and of models that are none."""

CANDIDATE, DATA, HELD_OUT = "candidate", "data_version", "held_out"
SCORE = "score"
"""On validation; see `tasks.register.merits`."""
TEACHERS = "teachers"
"""Registered versions that it learned from, with commas between them."""
BACKBONES = "backbones"
"""How many networks look at an image, where it is more than one."""
GATE = "gate."
"""How the tags begin that say what gates found and said: ``gate.1``, ``gate.2``...; see `tasks.register.rulings`."""

PREFIX = ".headstart-"
"""How the names of models begin that are none; no pipeline's can. See `tasks.register.numbers`."""
