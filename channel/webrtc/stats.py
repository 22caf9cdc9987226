"""What is known of a far end: how it stands with it, and totals with the names of W3C webrtc-stats."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from common.queues import Drops


class PeerState(Enum):
    """How it stands with a far end."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    LOST = "lost"
    """Silent for too long, or failed: it may come back by itself, else a new connection is tried."""
    CLOSED = "closed"
    """Gone for good."""


@dataclass(frozen=True, slots=True)
class PeerEvent:
    """A far end changed its state.

    reason : why, for people; empty where there is nothing to say
    """

    peer: str
    state: PeerState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PathStats:
    """Of the connection that stands, as the end that receives the stream has it; None where not known yet.

    jitter, roundTripTime : seconds; fractionLost : 0..1 since the last receiver report
    """

    packetsLost: int | None = None
    jitter: float | None = None
    fractionLost: float | None = None
    roundTripTime: float | None = None


@dataclass(frozen=True, slots=True)
class LinkStats:
    """One far end, with the names of W3C webrtc-stats. Totals are over all its connections.

    packets : datagrams, so feedback reports on the way back; bytes without any header of the network
    frames : groups of datagrams that left together (RTP marker bit)
    retransmittedPacketsSent : RTP packets sent again for a NACK, not in packetsSent
    nackCount, pliCount : NACKs and picture loss indications, received by who sends the stream, sent by who gets it
    drops : by reason: "not_connected" (nobody to send to), "send_full", "receive_full" (the oldest made room),
            "damaged" (cannot be a datagram of ours), "control_full", "control_damaged", "bad_signal"
    """

    state: PeerState
    packetsSent: int
    bytesSent: int
    framesSent: int
    packetsReceived: int
    bytesReceived: int
    framesReceived: int
    retransmittedPacketsSent: int
    nackCount: int
    pliCount: int
    path: PathStats
    drops: Drops
