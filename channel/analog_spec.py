"""The analog channel as a frozen model; `channel.spec` reads it from a string.

analog:snr_db=7
analog:snr_db=10,fading=rayleigh,coherence_ms=20,uses_per_s=48000,loss=0.05
"""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from channel.radio.mcs import MCS_NAMES, McsName

Fading = Literal["none", "rayleigh"]
FADINGS: tuple[Fading, ...] = get_args(Fading)


class AnalogSpec(BaseModel):
    """Pictures as symbols, and beside them a few well protected bits, all in one stretch of channel uses.

    snr_db : mean Es/N0 at the receiver
    fading : block fading whose gain the receiver knows, or none
    coherence_ms : how long one gain holds
    uses_per_s : complex channel uses a second, shared by everything that is sent
    delay_ms : propagation and processing
    digital_share : largest part of the uses for what is digital. Only what tells a group may exceed it, for without
        that the group's symbols are noise
    mcs : scheme of the digital part
    loss : probability that a packet of `PACKET_USES` analog symbols is lost
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["analog"] = "analog"
    snr_db: float = Field(ge=-40, le=60)
    fading: Fading = "none"
    coherence_ms: float = Field(100, ge=1, le=60_000)
    uses_per_s: float = Field(96_000, ge=1000, le=10_000_000)
    delay_ms: float = Field(5, ge=0, le=60_000)
    digital_share: float = Field(0.3, gt=0, le=0.9)
    mcs: McsName = MCS_NAMES[0]
    loss: float = Field(0, ge=0, le=1)
