"""Radio channels as frozen models; `channel.spec` reads them from a string.

    awgn:snr_db=7,mcs=qpsk-1/2
    rayleigh:snr_db=10,coherence_ms=20,pilots=4,noise=estimated
    tdl-a:snr_db=12,doppler_hz=30,delay_spread_ns=300       (tdl-b and tdl-c likewise)

The mean SNR is all that a channel must have.
"""

from __future__ import annotations

from math import ceil
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from channel.radio.mcs import McsName, block_uses, mcs_named
from channel.radio.segments import HEADER_BYTES, MIN_PIECE_BYTES

TdlKind = Literal["tdl-a", "tdl-b", "tdl-c"]
TDL_KINDS: tuple[TdlKind, ...] = get_args(TdlKind)
NoiseKnowledge = Literal["known", "estimated"]
MIN_INTERVAL_USES = 120
"""With fewer channel uses in an interval even fast schemes could be left without room for a block beside pilots."""


class RadioSettings(BaseModel):
    """What all radio channels have.

    snr_db : mean Es/N0 at the receiver
    mcs : the scheme of ordinary frames, or `adaptive` to follow the receiver's reports; what an interval is too
        short for is sent with the most robust scheme that it has room for
    uses_per_s : complex channel uses a second, shared by everything that is sent one way. 96 000 carry twice
        24 kbit/s even with `qpsk-1/3`, which key pictures need; at 512x512 and 25 frames/s they are a CBR of 1/205
    tti_ms : transmission interval
    delay_ms : propagation and processing, from the end of an interval to the arrival of what it carried
    queue_ms : what has waited longer before its first bit was sent is dropped
    report_delay_ms : age of the receiver's SNR report when the sender can use it, beyond the interval it is about
    report_noise_db : standard deviation of the report's error
    margin_db : how far above its threshold a scheme must be reported to be used by `adaptive`
    limit_uses : channel uses after which nothing is sent any more, to compare at equal use; None for no limit
    harq : how often a block that failed is sent again, to be combined with what was heard of it before
    protect_db : how much more robust configuration, guide keys and anchors are sent than frames;
        residuals are sent half as much less robust
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    snr_db: float = Field(ge=-40, le=60)
    mcs: McsName | Literal["adaptive"] = "adaptive"
    uses_per_s: float = Field(96_000, ge=1000, le=10_000_000)
    tti_ms: float = Field(10, ge=1, le=100)
    delay_ms: float = Field(5, ge=0, le=60_000)
    queue_ms: float = Field(300, gt=0, le=60_000)
    report_delay_ms: float = Field(10, ge=0, le=60_000)
    report_noise_db: float = Field(0.5, ge=0, le=20)
    margin_db: float = Field(1, ge=0, le=20)
    limit_uses: int | None = Field(None, gt=0)
    harq: int = Field(8, ge=0, le=15)
    protect_db: float = Field(2, ge=0, le=20)

    @model_validator(mode="after")
    def _interval_holds_a_block(self) -> RadioSettings:
        uses = self.uses_per_s * self.tti_ms / 1000
        if uses < MIN_INTERVAL_USES:
            raise ValueError(
                f"uses_per_s={self.uses_per_s:g} with tti_ms={self.tti_ms:g} is {uses:.0f} uses in an interval: "
                f"at least {MIN_INTERVAL_USES} are needed"
            )
        if self.mcs != "adaptive":
            least = block_uses(mcs_named(self.mcs), HEADER_BYTES + MIN_PIECE_BYTES)
            if uses < least:
                raise ValueError(
                    f"mcs={self.mcs} has no block shorter than {least} uses, and an interval has {uses:.0f}: raise "
                    f"uses_per_s or tti_ms, or take a faster scheme"
                )
        return self

    @property
    def report_age(self) -> int:
        """How many intervals before the one that uses it the newest report is about."""
        return 1 + ceil(self.report_delay_ms / self.tti_ms - 1e-6)


class AwgnSpec(RadioSettings):
    """White Gaussian noise alone."""

    kind: Literal["awgn"] = "awgn"


class RayleighSpec(RadioSettings):
    """Rayleigh block fading.

    coherence_ms : how long one coefficient holds
    pilots : pilot uses in every interval and block of coherence; 0 for a receiver that knows the coefficient
    noise : whether the receiver knows the variance of the noise, or estimates it from the pilots (at least 2)
    """

    kind: Literal["rayleigh"] = "rayleigh"
    coherence_ms: float = Field(100, ge=1, le=60_000)
    pilots: int = Field(0, ge=0, le=64)
    noise: NoiseKnowledge = "known"

    @model_validator(mode="after")
    def _pilots_suffice(self) -> RayleighSpec:
        if self.noise == "estimated" and self.pilots < 2:
            raise ValueError("noise=estimated needs pilots=2 or more")
        return self


class TdlSpec(RadioSettings):
    """A tapped delay line of 3GPP TR 38.901 under OFDM (30 kHz, one slot of 14 symbols per interval).

    doppler_hz : largest Doppler shift
    delay_spread_ns : root-mean-square delay spread
    noise : whether the receiver knows the variance of the noise, or estimates it from the pilots
    """

    kind: TdlKind
    doppler_hz: float = Field(5, ge=0, le=3000)
    delay_spread_ns: float = Field(300, ge=1, le=2000)
    noise: NoiseKnowledge = "known"


RadioSpec = AwgnSpec | RayleighSpec | TdlSpec
