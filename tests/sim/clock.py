"""Time that only moves when told to, and links that lose, double and reorder.

Times are integer nanoseconds from 0.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

SECOND = 1_000_000_000
MILLISECOND = 1_000_000
DELAY = 50_000
"""Of a link in fair weather: 50 microseconds."""


class Timer:
    """Something that is to happen; it can be called off."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action: Callable[[], None] | None = action

    @property
    def live(self) -> bool:
        return self._action is not None

    def cancel(self) -> None:
        self._action = None

    def fire(self) -> None:
        action, self._action = self._action, None
        if action is not None:
            action()


class Clock:
    """The one clock of a simulation and what is to happen on it, in order of (time, asked)."""

    def __init__(self) -> None:
        self.now = 0
        self._asked = 0
        self._timers: list[tuple[int, int, Timer]] = []

    def after(self, delay: int, action: Callable[[], None]) -> Timer:
        timer = Timer(action)
        heapq.heappush(self._timers, (self.now + delay, self.number(), timer))
        return timer

    def number(self) -> int:
        """A number that nobody else on this clock was given."""
        self._asked += 1
        return self._asked

    def next_time(self) -> int | None:
        """When the next timer fires, None when there is none."""
        while self._timers and not self._timers[0][2].live:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def fire_next(self) -> None:
        """Move to the next timer's time and let it fire."""
        at = self.next_time()
        assert at is not None
        self.now = max(self.now, at)
        heapq.heappop(self._timers)[2].fire()


@dataclass(frozen=True, slots=True)
class Weather:
    """What a link does to packets: each chance is 0 to 1, independent of the others.

    A reordered packet comes up to ``spread`` nanoseconds late, so that later ones
    overtake it; a duplicate is the packet once more, late as well.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    spread: int = 5 * MILLISECOND


FAIR = Weather()


class Link:
    """One machine's link, the same for both directions."""

    def __init__(self, clock: Clock, rng: Random, delay: int = DELAY) -> None:
        self.weather = FAIR
        self.carried = self.lost = 0
        self._clock, self._rng, self._delay = clock, rng, delay

    def carry(self, deliver: Callable[[], None]) -> None:
        """Call ``deliver`` when the packet arrives: once, not at all, or twice."""
        weather, rng = self.weather, self._rng
        if weather.loss and rng.random() < weather.loss:
            self.lost += 1
            return
        self.carried += 1
        late = 0
        if weather.reorder and rng.random() < weather.reorder:
            late = rng.randrange(1, weather.spread)
        self._clock.after(self._delay + late, deliver)
        if weather.duplicate and rng.random() < weather.duplicate:
            self._clock.after(self._delay + rng.randrange(1, weather.spread), deliver)
