"""How far a long command is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_WIDTH = 30


class Progress:
    r"""Shows how many of `total` items are done.

    >>> import io
    >>> out = io.StringIO()
    >>> progress = Progress('copy', 3, out)
    >>> for _ in range(3):
    ...     progress.step()
    >>> progress.end()
    >>> out.getvalue()
    'copy: 3 of 3 items (100 %)\n'
    """

    def __init__(self, label: str, total: int, out: TextIO | None = None) -> None:
        self._label, self._total = label, total
        self._out = sys.stderr if out is None else out
        self._is_terminal = self._out.isatty()
        self._pause = 0.1 if self._is_terminal else 10.0
        self._done, self._shown = 0, time.monotonic()

    def step(self, items: int = 1) -> None:
        """Count items as done."""
        self._done += items
        present = time.monotonic()
        if present - self._shown >= self._pause:
            self._shown = present
            self._show()

    def end(self) -> None:
        """Show the last state, and leave it there."""
        self._show()
        if self._is_terminal:
            print(file=self._out, flush=True)

    def _show(self) -> None:
        part = min(self._done / self._total, 1.0) if self._total else 1.0
        text = f"{self._label}: {self._done} of {self._total} items ({part:.0%})".replace("%", " %")
        if self._is_terminal:
            bar = "#" * round(part * _WIDTH)
            print(f"\r[{bar:{_WIDTH}}] {text}", end="", file=self._out, flush=True)
        else:
            print(text, file=self._out, flush=True)
