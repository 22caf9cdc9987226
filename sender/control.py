"""The rate controller at work: owns its state, the guide's scale, and the accounting of every picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from common.config import Config
from common.types import Picture
from common.units import StreamConfig
from sender.guide import GuideCoder, still_size
from sender.probe import Probe
from sender.rate import (
    LINK,
    Pace,
    PicturePlan,
    RateState,
    RateTarget,
    Role,
    measured_complexity,
    plan,
    plan_key,
    rescaled,
    spent,
    wants_scale,
)

_TRIAL_Q = 46
_LENT_OF_REST = 0.3  # of the time left, what a key picture may take
_RESCALE_PAYS_S = (
    2.0  # a change of scale costs a key picture, which the last pictures of a stream do not pay back
)


@dataclass(slots=True)
class RateKeeper:
    """Decides quantiser, key frames and scale of the guide; holds the guide's encoder."""

    config: StreamConfig
    settings: Config
    target: RateTarget
    rate: RateState = field(default_factory=RateState)
    guide: GuideCoder = field(init=False)
    pace: Pace = LINK
    started: bool = False

    def __post_init__(self) -> None:
        scale, coarsest = self.settings.guide.scale, self.config.scales[-1]
        self.guide = self._coder(coarsest if scale == "auto" else min(int(scale), coarsest))

    @property
    def start_key_s(self) -> float:
        chosen = self.settings.sender.start_key_s
        return self.pace.start_key_s if chosen == "auto" else chosen

    @property
    def _may_rescale(self) -> bool:
        return self.settings.guide.scale == "auto"

    def _coder(self, scale: int) -> GuideCoder:
        return GuideCoder(self.config, scale, self.settings.guide.preset)

    def _open(self, scale: int) -> None:
        self.guide.close()
        self.guide = self._coder(scale)

    @property
    def overdrawn(self) -> bool:
        """Whether the guide cannot do with less at present."""
        return self.rate.quantiser > 59 or self.rate.debt_bytes > 0.3 * self.target.rate_bps / 8

    def probe(self, pictures: Sequence[Picture]) -> None:
        """Choose scale and quantiser from the first pictures of the stream."""
        if self._may_rescale and len(pictures) > 1:
            scale, self.rate = Probe(pictures, self.config, self.target, self.settings.guide.preset).choose()
            self._open(scale)

    def rescale_due(self, left_s: float) -> bool:
        """Whether another guide scale is worth a key frame now, `left_s` seconds before the stream ends."""
        if not self._may_rescale or left_s < _RESCALE_PAYS_S:
            return False
        wanted = wants_scale(self.rate, self.guide.scale, self.config.scales, self.target)
        affordable = self.rate.debt_bytes < 0.3 * self.target.rate_bps / 8
        return wanted > self.guide.scale or (wanted < self.guide.scale and affordable)

    def plan(self, source: Picture, key: bool, left_s: float) -> PicturePlan:
        """Quantiser of the next picture; for a key picture after any change of scale that is due.

        left_s : seconds until the stream ends, in which a key picture has to be paid back
        """
        if not key:
            chosen, self.rate = plan(self.rate, self.guide.role, self.target)
            return chosen
        scale = wants_scale(self.rate, self.guide.scale, self.config.scales, self.target)
        if self._may_rescale and scale != self.guide.scale:
            self.rate = rescaled(self.rate, self.guide.scale, scale)
            self._open(scale)
        size = still_size(source, self.config, self.guide.scale, _TRIAL_Q, self.settings.guide.preset)
        _, *rest = self.rate.complexity
        self.rate = replace(
            self.rate, complexity=(measured_complexity(size, _TRIAL_Q), rest[0], rest[1], rest[2])
        )
        limit_s = self.start_key_s
        if self.started:
            limit_s = min(self.pace.cut_key_s, max(LINK.cut_key_s, _LENT_OF_REST * left_s))
        self.started = True
        return PicturePlan(plan_key(self.rate, self.target, limit_s), send=True)

    def link_overhead(self, extra_bytes: int) -> None:
        """Bytes that the packets added for headers, repairs and retransmissions: they count against the rate too."""
        self.rate = replace(self.rate, debt_bytes=self.rate.debt_bytes + extra_bytes)

    def account(
        self,
        role: Role,
        plan: PicturePlan,
        guide_bytes: int,
        side_bytes: int,
        anchor_bytes: float,
        reserve: float,
    ) -> None:
        """Take note of what one picture cost.

        reserve : share of the rate that an anchor on its way needs from now on
        """
        state = spent(self.rate, role, plan.quantiser, guide_bytes, side_bytes, anchor_bytes, self.target)
        self.rate = replace(state, reserve=reserve)
