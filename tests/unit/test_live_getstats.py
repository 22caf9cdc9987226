"""The `getStats` report: its names are those of W3C, and nothing in it is made up."""

from __future__ import annotations

import json
from dataclasses import replace

from benchmarks.live.getstats import Report, get_receiver_stats, get_sender_stats
from channel.webrtc.stats import PathStats, PeerState
from tests.live_figures import LINK, PAGE, STREAM, outlet

UNIX_S = 1_800_000_000.25

STATS = {"timestamp", "type", "id"}
RTP_STREAM = STATS | {"ssrc", "kind", "transportId", "codecId"}
SENT = RTP_STREAM | {"packetsSent", "bytesSent"}
RECEIVED = RTP_STREAM | {
    "packetsReceived", "packetsReceivedWithEct1", "packetsReceivedWithCe", "packetsReportedAsLost",
    "packetsReportedAsLostButRecovered", "packetsLost", "jitter",
}  # fmt: skip
W3C = {
    "outbound-rtp": SENT
    | {
        "mid", "mediaSourceId", "remoteId", "rid", "encodingIndex", "headerBytesSent", "retransmittedPacketsSent",
        "retransmittedBytesSent", "rtxSsrc", "targetBitrate", "totalEncodedBytesTarget", "frameWidth", "frameHeight",
        "framesPerSecond", "framesSent", "hugeFramesSent", "framesEncoded", "keyFramesEncoded", "qpSum", "psnrSum",
        "psnrMeasurements", "totalEncodeTime", "totalPacketSendDelay", "qualityLimitationReason",
        "qualityLimitationDurations", "qualityLimitationResolutionChanges", "nackCount", "firCount", "pliCount",
        "encoderImplementation", "powerEfficientEncoder", "active", "scalabilityMode", "packetsSentWithEct1",
    },
    "remote-inbound-rtp": RECEIVED
    | {"localId", "roundTripTime", "totalRoundTripTime", "fractionLost", "roundTripTimeMeasurements"},
    "inbound-rtp": RECEIVED
    | {
        "trackIdentifier", "mid", "remoteId", "framesDecoded", "keyFramesDecoded", "framesRendered", "framesDropped",
        "frameWidth", "frameHeight", "framesPerSecond", "qpSum", "totalDecodeTime", "totalInterFrameDelay",
        "totalSquaredInterFrameDelay", "pauseCount", "totalPausesDuration", "freezeCount", "totalFreezesDuration",
        "lastPacketReceivedTimestamp", "headerBytesReceived", "packetsDiscarded", "fecBytesReceived",
        "fecPacketsReceived", "fecPacketsDiscarded", "bytesReceived", "nackCount", "firCount", "pliCount",
        "totalProcessingDelay", "estimatedPlayoutTimestamp", "jitterBufferDelay", "jitterBufferTargetDelay",
        "jitterBufferEmittedCount", "jitterBufferMinimumDelay", "framesReceived", "decoderImplementation",
        "powerEfficientDecoder", "framesAssembledFromMultiplePackets", "totalAssemblyTime",
        "retransmittedPacketsReceived", "retransmittedBytesReceived", "rtxSsrc", "fecSsrc",
    },
    "transport": STATS
    | {
        "packetsSent", "packetsReceived", "bytesSent", "bytesReceived", "iceRole", "iceLocalUsernameFragment",
        "dtlsState", "iceState", "selectedCandidatePairId", "localCertificateId", "remoteCertificateId", "tlsVersion",
        "dtlsCipher", "dtlsRole", "srtpCipher", "selectedCandidatePairChanges",
    },
    "candidate-pair": STATS
    | {
        "transportId", "localCandidateId", "remoteCandidateId", "state", "nominated", "packetsSent", "packetsReceived",
        "bytesSent", "bytesReceived", "lastPacketSentTimestamp", "lastPacketReceivedTimestamp", "totalRoundTripTime",
        "currentRoundTripTime", "availableOutgoingBitrate", "availableIncomingBitrate", "requestsReceived",
        "requestsSent", "responsesReceived", "responsesSent", "consentRequestsSent", "packetsDiscardedOnSend",
        "bytesDiscardedOnSend",
    },
}  # fmt: skip
"""Members of the dictionaries of https://www.w3.org/TR/webrtc-stats/ (for video), with those that they inherit."""


def by_type(report: Report) -> dict[str, list[dict[str, object]]]:
    """After checking what holds for every report."""
    found: dict[str, list[dict[str, object]]] = {}
    for identity, stats in report.items():
        assert stats["id"] == identity and stats["timestamp"] == UNIX_S * 1e3
        assert set(stats) <= W3C[stats["type"]], set(stats) - W3C[stats["type"]]
        assert None not in stats.values()
        for name, reference in stats.items():
            assert not name.endswith("Id") or reference in report, (name, reference)
        found.setdefault(stats["type"], []).append(stats)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    return found


def test_a_sending_end() -> None:
    report = by_type(get_sender_stats(UNIX_S, [outlet("anna"), outlet("ben"), outlet("udp", None)], STREAM))
    assert {kind: len(stats) for kind, stats in report.items()} == dict.fromkeys(
        ("outbound-rtp", "remote-inbound-rtp", "transport", "candidate-pair"), 2
    )
    outbound, remote = report["outbound-rtp"][0], report["remote-inbound-rtp"][0]
    assert (
        outbound["packetsSent"] == 300 and outbound["bytesSent"] == 90_000 and outbound["framesSent"] == 150
    )
    assert outbound["targetBitrate"] == 48_000 and outbound["pliCount"] == 2
    assert remote["localId"] == outbound["id"] and outbound["remoteId"] == remote["id"]
    assert remote["packetsLost"] == 9 and remote["roundTripTime"] == 0.05 and remote["fractionLost"] == 0.02
    assert report["candidate-pair"][0]["availableOutgoingBitrate"] == 60_000
    assert report["transport"][0]["dtlsState"] == "connected"


def test_repeats_are_among_the_packets() -> None:
    link = replace(LINK, retransmittedPacketsSent=12)
    (outbound,) = by_type(get_sender_stats(UNIX_S, [outlet("anna", link)], STREAM))["outbound-rtp"]
    assert outbound["packetsSent"] == 312 and outbound["retransmittedPacketsSent"] == 12
    assert "bytesSent" not in outbound  # W3C counts the repeats' bytes, which are not known


def test_a_receiving_end() -> None:
    report = by_type(get_receiver_stats(UNIX_S, PAGE, LINK))
    (inbound,) = report["inbound-rtp"]
    assert inbound["packetsReceived"] == 40 and inbound["bytesReceived"] == 1_600
    assert inbound["framesRendered"] == 133 and inbound["framesPerSecond"] == 29.5
    assert (inbound["frameWidth"], inbound["frameHeight"]) == (512, 256) and inbound["nackCount"] == 6
    assert inbound["jitter"] == 0.004 and "roundTripTime" not in inbound


def test_what_is_not_known_is_left_out() -> None:
    silent = replace(LINK, state=PeerState.LOST, path=PathStats())
    report = by_type(get_sender_stats(UNIX_S, [outlet("anna", silent)], STREAM))
    assert set(report["remote-inbound-rtp"][0]) == STATS | {"kind", "localId", "transportId"}
    assert set(report["transport"][0]) == STATS and "candidate-pair" not in report
    waiting = by_type(get_receiver_stats(UNIX_S, replace(PAGE, shown=0, concealed=0), silent))
    assert "frameWidth" not in waiting["inbound-rtp"][0] and "jitter" not in waiting["inbound-rtp"][0]
    assert get_receiver_stats(UNIX_S, PAGE, None) == {}
