"""What `RTCPeerConnection.getStats` would say, with the types and members of W3C webrtc-stats, as plain dictionaries.

    sender    for each far end  outbound-rtp <-> remote-inbound-rtp, transport -> candidate-pair
    receiver                    inbound-rtp, transport -> candidate-pair

Only what is really known: a member that is missing is not measured here (`ssrc`, the candidates' identities and others
that a browser must give are among these). The stream's RTP packets are our datagrams.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.live.figures import OutletFigures, StreamFigures
from channel.webrtc.stats import LinkStats, PeerState
from receiver.web.messages import PageStats

Report = dict[str, dict[str, Any]]
"""By `id`, as RTCStatsReport is a map; ready for json.dumps."""

_DTLS = {PeerState.CONNECTED: "connected", PeerState.CLOSED: "closed"}
"""RTCDtlsTransportState where the state of a link says it; a lost one may be either."""


def get_sender_stats(unix_s: float, outlets: Sequence[OutletFigures], stream: StreamFigures) -> Report:
    """Of a sending end. unix_s : seconds since 1970; a far end without a WebRTC link is left out"""
    found: list[dict[str, Any]] = []
    for outlet in outlets:
        if (link := outlet.link) is None:
            continue
        outbound, remote = f"outbound-rtp-{outlet.name}", f"remote-inbound-rtp-{outlet.name}"
        found += [
            {
                "type": "outbound-rtp", "id": outbound, "kind": "video", "remoteId": remote,
                "transportId": f"transport-{outlet.name}", **_sent(link), "targetBitrate": stream.target_bps,
                "framesSent": link.framesSent, "nackCount": link.nackCount, "pliCount": link.pliCount,
            },
            {
                "type": "remote-inbound-rtp", "id": remote, "kind": "video", "localId": outbound,
                "transportId": f"transport-{outlet.name}", "packetsLost": link.path.packetsLost,
                "jitter": link.path.jitter, "fractionLost": link.path.fractionLost,
                "roundTripTime": link.path.roundTripTime,
            },
            *_transport(link, outlet.name, {"availableOutgoingBitrate": outlet.rate_bps}),
        ]  # fmt: skip
    return _report(unix_s, found)


def get_receiver_stats(unix_s: float, stats: PageStats, link: LinkStats | None) -> Report:
    """Of a receiving end; empty where the link is none of WebRTC's. unix_s : seconds since 1970"""
    if link is None:
        return {}
    seen = {"frameWidth": stats.width, "frameHeight": stats.height} if stats.shown else {}
    inbound = {
        "type": "inbound-rtp", "id": "inbound-rtp", "kind": "video", "transportId": "transport-sender",
        "packetsReceived": link.packetsReceived, "bytesReceived": link.bytesReceived,
        "packetsLost": link.path.packetsLost, "jitter": link.path.jitter, "nackCount": link.nackCount,
        "pliCount": link.pliCount, "framesRendered": stats.shown - stats.concealed,
        "framesPerSecond": stats.fps, **seen,
    }  # fmt: skip
    return _report(unix_s, [inbound, *_transport(link, "sender", {})])


def _sent(link: LinkStats) -> Mapping[str, int]:
    """W3C counts repeats in both members. How long those were that answered a NACK is not known here."""
    again = link.retransmittedPacketsSent
    return {
        "packetsSent": link.packetsSent + again,
        "retransmittedPacketsSent": again,
        **({} if again else {"bytesSent": link.bytesSent}),
    }


def _transport(link: LinkStats, name: str, path: Mapping[str, float]) -> list[dict[str, Any]]:
    """The transport and, while it stands, the pair of candidates that carries it. path : what is known of that"""
    transport = {"type": "transport", "id": f"transport-{name}", "dtlsState": _DTLS.get(link.state)}
    if link.state is not PeerState.CONNECTED:
        return [transport]
    pair = {
        "type": "candidate-pair", "id": f"candidate-pair-{name}", "transportId": transport["id"],
        "state": "succeeded", "nominated": True, **path,
    }  # fmt: skip
    return [{**transport, "selectedCandidatePairId": pair["id"]}, pair]


def _report(unix_s: float, found: Sequence[Mapping[str, Any]]) -> Report:
    """With time stamps (milliseconds), without what is None."""
    stamped = [{"timestamp": unix_s * 1e3, **stats} for stats in found]
    return {
        stats["id"]: {name: value for name, value in stats.items() if value is not None} for stats in stamped
    }
