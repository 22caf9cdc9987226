"""The adapter to aiortc: it fails loudly where the library has moved, and our messages survive its parsers."""

from __future__ import annotations

from importlib import import_module

import pytest
from aiortc import RTCPeerConnection, RTCRtpReceiver
from aiortc.codecs import CODECS
from aiortc.jitterbuffer import JitterBuffer
from aiortc.rtp import RTCP_PSFB_APP, RtcpPacket, RtcpPsfbPacket, unpack_remb_fci
from hypothesis import given
from hypothesis import strategies as st

from channel.webrtc import payload, peer
from channel.webrtc.payload import (
    check_aiortc,
    pack_report,
    register_codec,
    unpack_report,
    without_extensions,
)
from channel.webrtc.settings import IceServer, WebRtcConfig
from channel.webrtc.signaller import MAX_SDP_CHARACTERS, Signal, parse_signal
from channel.webrtc.transport import WebRtcTransport
from common.clock import SystemClock
from common.datagram import MAX_DATAGRAM_BYTES
from common.errors import ChannelError


def test_aiortc_is_the_one_we_know() -> None:
    check_aiortc()


@pytest.mark.parametrize(("module", "name", "parameters"), payload._EXPECTED)
def test_a_name_that_moved_is_said(
    module: str, name: str, parameters: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = import_module(f"aiortc.{module}")
    *path, last = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    with monkeypatch.context() as patch:
        patch.setattr(owner, last, lambda something_else: None)
        with pytest.raises(ChannelError, match=r"aiortc .* takes .*install the version in constraints\.txt"):
            check_aiortc()
        with pytest.raises(ChannelError, match="takes"):
            WebRtcTransport(SystemClock())
    if last != "__init__":
        monkeypatch.delattr(owner, last)
        with pytest.raises(ChannelError, match=f"{last} is not there"):
            check_aiortc()


def test_a_jitter_buffer_that_moved_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    async def moved(self: RTCRtpReceiver, packet: object, arrival_time_ms: int) -> None: ...

    monkeypatch.setattr(RTCRtpReceiver, "_handle_rtp_packet", moved)
    with pytest.raises(ChannelError, match="jitter_buffer"):
        check_aiortc()


def test_a_codec_table_that_moved_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CODECS, "video", ())  # type: ignore[arg-type]
    with pytest.raises(ChannelError, match="CODECS"):
        check_aiortc()


def test_our_codec_is_registered_once() -> None:
    capability = register_codec()
    assert register_codec() == capability
    (ours,) = [codec for codec in CODECS["video"] if codec.mimeType == "video/x-semcast"]
    assert ours.clockRate == 90_000
    assert sum(codec.payloadType == ours.payloadType for codecs in CODECS.values() for codec in codecs) == 1
    assert [(feedback.type, feedback.parameter) for feedback in ours.rtcpFeedback] == [
        ("nack", None), ("nack", "pli"),
    ]  # fmt: skip


async def test_the_tap_fits_the_place_of_the_jitter_buffer() -> None:
    connection = RTCPeerConnection(peer._configuration(WebRtcConfig()))
    receiver = connection.addTransceiver("video").receiver
    assert isinstance(getattr(receiver, payload._JITTER_BUFFER), JitterBuffer)
    await connection.close()


@given(st.binary(min_size=1, max_size=MAX_DATAGRAM_BYTES))
def test_reports_cross_the_library_unchanged(report: bytes) -> None:
    packet = RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=1, media_ssrc=2, fci=pack_report(report))
    (parsed,) = RtcpPacket.parse(bytes(packet))
    assert isinstance(parsed, RtcpPsfbPacket) and parsed.media_ssrc == 2
    assert unpack_report(parsed.fci) == report
    with pytest.raises(ValueError):  # what makes aiortc's own handler leave it alone
        unpack_remb_fci(parsed.fci)


@pytest.mark.parametrize(
    "fci", [b"", b"SMCR", b"REMB\0\4abcd", b"SMCR\0\0ab", b"SMCR\0\3ab", b"SMCR\xff\xff" + bytes(2000)]
)
def test_damaged_reports(fci: bytes) -> None:
    assert unpack_report(fci) is None


def test_header_extensions_are_not_offered() -> None:
    assert without_extensions("a=mid:0\r\na=extmap:1 urn:x\r\na=rtcp-mux\r\n") == "a=mid:0\r\na=rtcp-mux\r\n"


def test_nothing_outside_is_contacted_unasked() -> None:
    assert peer._configuration(WebRtcConfig()).iceServers == []
    server = IceServer(url="turn:relay.example:3478?transport=udp", username="u", credential="c")
    (named,) = peer._configuration(WebRtcConfig(ice_servers=(server,), relay_only=True)).iceServers or ()
    assert (named.urls, named.username, named.credential) == (server.url, "u", "c")


@pytest.mark.parametrize("signal", [Signal("offer", 3, "v=0"), Signal("renew", 2), Signal("bye")])
def test_signals(signal: Signal) -> None:
    assert parse_signal(signal.as_message()) == signal


@pytest.mark.parametrize(
    "message",
    [
        None, [], {}, {"type": "hello"}, {"type": ["offer"]}, {"type": "offer"}, {"type": "offer", "sdp": 5},
        {"type": "answer", "sdp": "v=0", "session": "1"}, {"type": "answer", "sdp": "v=0", "session": True},
        {"type": "bye", "sdp": "v=0"}, {"type": "offer", "sdp": "x" * (MAX_SDP_CHARACTERS + 1)},
    ],
)  # fmt: skip
def test_signals_that_make_no_sense(message: object) -> None:
    assert parse_signal(message) is None
