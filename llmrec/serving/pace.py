"""How long a batch takes, learnt from those of late."""

from __future__ import annotations

import numpy as np

FADE = 0.8
"""The weight of what was known, at each new batch."""


class Pace:
    """Seconds of a batch as `base + each * size`: least squares over the batches, the older the lighter."""

    def __init__(self) -> None:
        self._sums = np.zeros(5)  # of 1, size, seconds, size * size, size * seconds

    def note(self, size: int, seconds: float) -> None:
        """Learn from a batch."""
        self._sums = FADE * self._sums + np.array([1, size, seconds, size * size, size * seconds])

    def seconds(self, size: int) -> float:
        """What a batch of this size should take; 0 while nothing is known."""
        if not self._sums[0]:
            return 0.0
        mean_size, mean_seconds, squares, products = self._sums[1:] / self._sums[0]
        spread = squares - mean_size**2
        most = mean_seconds / mean_size  # all of it grows with the size: so it is taken to be where all sizes are alike
        each = most if spread < 0.01 else (products - mean_size * mean_seconds) / spread
        each = min(max(each, 0.0), most)
        return float(mean_seconds + each * (size - mean_size))
