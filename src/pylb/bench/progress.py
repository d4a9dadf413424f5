"""How far a run is: a bar with the time that is left on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from typing import TextIO

_WIDTH = 24
_EVERY = 15.0
"""Seconds between lines where there is no terminal to draw a bar on."""


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02}"


class Progress:
    """Tells on ``out``; nothing when it is None."""

    def __init__(self, out: TextIO | None) -> None:
        self._out = out
        self._terminal = out is not None and out.isatty()
        self._drawn = False
        self._last = 0.0

    def note(self, text: str) -> None:
        """Say something that stays."""
        if self._out is None:
            return
        self.clear()
        print(text, file=self._out, flush=True)

    def at(self, done: float, left: float, what: str) -> None:
        """``done`` and ``left`` are seconds; ``what`` is being measured now."""
        if self._out is None:
            return
        part = done / (done + left) if done + left > 0 else 1.0
        text = f"{part:4.0%}  {clock(left)} left  {what}"
        if self._terminal:
            full = int(part * _WIDTH)
            bar = "█" * full + "·" * (_WIDTH - full)
            self._out.write(f"\r\x1b[K{bar} {text}")
            self._out.flush()
            self._drawn = True
        elif time.monotonic() - self._last >= _EVERY:
            self._last = time.monotonic()
            print(text.strip(), file=self._out, flush=True)

    def clear(self) -> None:
        """Take the bar away."""
        if self._drawn and self._out is not None:
            self._out.write("\r\x1b[K")
            self._out.flush()
            self._drawn = False
