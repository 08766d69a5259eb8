"""What names say of images that belong together: frames of a film, bursts, copies with a number."""

from __future__ import annotations

import re

_COPY = re.compile(r"(?:[ _-]+(?:copy|kopie)(?: ?\d+)?| ?\(\d+\))+$", re.IGNORECASE)
_COUNTER = re.compile(r"^(.*\d.*?)[ _.-]+(?:frame|frm|f|img)?[ _-]?\d+$", re.IGNORECASE)


def stem_of(path: str, label: str | None) -> str:
    """The name of a file without the marks of a copy and without the counter at its end, where what is left has digits
    of its own: the counter of ``IMG_2041`` is all that tells it from others. What is digits alone may be counted anew
    in each class.

    >>> stem_of("stop/00012_00003.png", "stop"), stem_of("a/video3_000123.jpg", "a"), stem_of("a/IMG_2041 (1).jpg", "a")
    ('stop/00012', 'video3', 'IMG_2041')
    """
    name = path.rpartition("/")[2]
    name = name.rpartition(".")[0] or name
    name = _COPY.sub("", name) or name
    if counted := _COUNTER.match(name):
        name = counted[1]
    return f"{label}/{name}" if name.isdigit() and label else name
