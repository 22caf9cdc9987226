"""What a live sender says about itself: for the log, the metrics and the `getStats` report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from channel.webrtc.stats import LinkStats


@dataclass(frozen=True, slots=True)
class OutletFigures:
    """One far end. Everything that counts does so since it came.

    name : the far end's identity in its room; state : how its link stands, a `PeerState`'s value where it is one
    rate_bps : what it can take, as estimated; queue_s : how long what is sent now has to wait on the way
    rtt_s : round trip of the newest report, None before the first; loss_ratio : of the last second or so, 0..1
    sent_bytes, datagrams : everything, protection and repeats included
    fec_bytes, retransmission_bytes : parts of sent_bytes
    thinned_units : left out because this far end could not take them
    link : what its link says, None where it knows nothing
    """

    name: str
    state: str
    rate_bps: float
    queue_s: float
    rtt_s: float | None
    loss_ratio: float
    sent_bytes: int
    datagrams: int
    fec_bytes: int
    retransmission_bytes: int
    thinned_units: int
    link: LinkStats | None


@dataclass(frozen=True, slots=True)
class StreamFigures:
    """The one stream that all far ends get.

    target_bps : that the encoder works for; frames, keys : encoded, and the key pictures among them
    skipped : frames not encoded since no far end could have taken them
    dropped_pictures : that the source gave while the encoder was busy
    receivers : far ends that are connected
    """

    target_bps: float
    frames: int
    skipped: int
    dropped_pictures: int
    keys: int
    receivers: int
