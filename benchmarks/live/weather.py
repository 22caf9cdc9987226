"""A link that changes while it is used, the same for the same seed: loss, delay, disorder, rates, short cuts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

PERIOD_S = 900.0
"""After so long everything comes again: a figure is compared with itself under the same conditions."""
SPELL_S = (10.0, 40.0)
"""How long the link stays as it is."""
CUT_S = (0.2, 1.0)
_CUTS = 0.25
"""Part of the spells that begin with a cut."""
_DELAYS_MS = (15, 25, 40, 60)
_LOSSES = (0.0, 0.0, 0.01, 0.02, 0.05)
_RATES_KBPS = (None, None, 400, 100, 64, 40)


@dataclass(frozen=True, slots=True)
class Spell:
    """From `at_s` on the link is `link` (a channel SPEC); cut_s : nothing crosses at its beginning, 0 for no cut"""

    at_s: float
    link: str
    cut_s: float = 0.0


def changing_link(seed: int, seconds: float) -> tuple[Spell, ...]:
    """What the link is like in a run of so many seconds, the same every `PERIOD_S`; the first spell of each is gentle."""
    period = _one_period(seed)
    spells = [
        replace(spell, at_s=round(number * PERIOD_S + spell.at_s, 1))
        for number in range(math.ceil(seconds / PERIOD_S))
        for spell in period
    ]
    return tuple(spell for spell in spells if spell.at_s < seconds)


def due(spells: Sequence[Spell], after_s: float, now_s: float) -> Spell | None:
    """The newest spell that began in (after_s, now_s], None where none did."""
    return next((spell for spell in reversed(spells) if after_s < spell.at_s <= now_s), None)


def _one_period(seed: int) -> list[Spell]:
    random = np.random.default_rng(seed)
    spells = [Spell(0.0, "packet:delay_ms=25")]
    at_s = float(random.uniform(*SPELL_S))
    while at_s < PERIOD_S:
        cut_s = float(random.uniform(*CUT_S)) if random.random() < _CUTS else 0.0
        spells.append(Spell(round(at_s, 1), _any_link(random), round(cut_s, 2)))
        at_s += float(random.uniform(*SPELL_S))
    return spells


def _any_link(random: np.random.Generator) -> str:
    delay_ms, loss, rate = random.choice(_DELAYS_MS), random.choice(_LOSSES), _RATES_KBPS[random.integers(6)]
    settings = [f"delay_ms={delay_ms}", f"jitter_ms={random.choice((0, 3, 8))}", f"loss={loss:g}"]
    if loss:
        settings.append(f"burst={random.choice((1, 2, 3))}")
    if random.random() < 0.3:
        settings += ["reorder=0.02", "duplicate=0.02", "corrupt=0.002"]
    if rate is not None:
        settings += [f"rate_kbps={rate}", "queue_ms=1000"]
    return f"packet:{','.join(settings)}"
