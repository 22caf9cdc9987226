"""Figures of live ends as tests need them: nothing measured, every field another number."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.live.figures import OutletFigures, StreamFigures
from channel.webrtc.stats import LinkStats, PathStats, PeerState
from receiver.reassembly import Reassembler, ReassemblyStats
from receiver.web.messages import PageStats

LINK = LinkStats(
    state=PeerState.CONNECTED, packetsSent=300, bytesSent=90_000, framesSent=150, packetsReceived=40,
    bytesReceived=1_600, framesReceived=40, retransmittedPacketsSent=0, nackCount=6, pliCount=2,
    path=PathStats(packetsLost=9, jitter=0.004, fractionLost=0.02, roundTripTime=0.05),
    drops=(("not_connected", 3), ("send_full", 1)),
)  # fmt: skip

STREAM = StreamFigures(
    target_bps=48_000.0, frames=150, skipped=4, dropped_pictures=5, keys=3, receivers=2
)  # fmt: skip

PAGE = PageStats(
    link="connected", width=512, height=256, fps=29.5, rate_bps=47_000.0, layer_bps=(("guide", 30_000.0),),
    spent_ms=21.0, budget_ms=28.0, delay_ms=140.0, level="bridge 1", uncertainty=3.5, loss_ratio=0.02, shown=140,
    concealed=7, late=2, taken_back_pictures=3,
)  # fmt: skip


def outlet(name: str, link: LinkStats | None = LINK) -> OutletFigures:
    return OutletFigures(
        name=name, state="connected", rate_bps=60_000.0, queue_s=0.03, rtt_s=0.055, loss_ratio=0.01,
        sent_bytes=91_000, datagrams=301, fec_bytes=12_000, retransmission_bytes=2_500, thinned_units=8, link=link,
    )  # fmt: skip


def wire() -> ReassemblyStats:
    return replace(
        Reassembler().stats, datagrams=300, received_bytes=90_000, drops=(("corrupt", 2), ("stale", 1))
    )
