"""The adapter: the only module that touches what aiortc does not document. Written against aiortc 1.16.

    sending    PeerLink.next_poll -> RTCRtpSender (numbers, SRTP)           one datagram is one RTP payload
    receiving  SRTP -> RTCRtpReceiver (statistics, NACK) -> PeerLink        in place of its jitter buffer
    back       our report as RTCP application layer feedback (RFC 4585, 6.4), beside aiortc's NACK, PLI and RR

Each hook is set on one object, never on a class; only the codec table is shared. `check_aiortc` compares names and
signatures with what is needed here, so that an upgrade which moves them fails at start and in the tests.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from typing import Any, NoReturn

from aiortc import RTCPeerConnection, RTCRtpTransceiver, sdp
from aiortc.codecs import CODECS, get_capabilities
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.rtcrtpparameters import RTCRtcpFeedback, RTCRtpCodecCapability, RTCRtpCodecParameters
from aiortc.rtcrtpsender import RTCEncodedFrame
from aiortc.rtp import (
    DYNAMIC_PAYLOAD_TYPES,
    RTCP_PSFB_APP,
    RTCP_PSFB_FIR,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    RTP_HISTORY_SIZE,
    AnyRtcpPacket,
    RtcpPsfbPacket,
    RtcpRtpfbPacket,
    RtpPacket,
)
from aiortc.stats import (
    RTCInboundRtpStreamStats,
    RTCRemoteInboundRtpStreamStats,
    RTCStatsReport,
)

from channel.webrtc.link import RTP_CLOCK_HZ, PeerLink
from channel.webrtc.stats import PathStats
from common.datagram import MAX_DATAGRAM_BYTES, is_feedback, parse_feedback
from common.errors import BitstreamError, ChannelError

MIME_TYPE = "video/x-semcast"

PLI_INTERVAL_S = 0.2
"""A lasting need for a refresh is in every report; a PLI repeats it at most so often."""

_REPORT_NAME = b"SMCR"
"""Opens our application layer feedback, as "REMB" opens Google's."""

_JITTER_BUFFER = "_RTCRtpReceiver__jitter_buffer"

_EXPECTED = (
    ("rtcrtpsender", "RTCRtpSender._next_encoded_frame", ("self", "codec")),
    ("rtcrtpsender", "RTCRtpSender._handle_rtcp_packet", ("self", "packet")),
    ("rtcrtpsender", "RTCRtpSender.getStats", ("self",)),
    ("rtcrtpsender", "RTCEncodedFrame.__init__", ("self", "payloads", "timestamp", "audio_level")),
    ("rtcrtpreceiver", "RTCRtpReceiver._handle_rtp_packet", ("self", "packet", "arrival_time_ms")),
    ("rtcrtpreceiver", "RTCRtpReceiver._handle_rtcp_packet", ("self", "packet")),
    ("rtcrtpreceiver", "RTCRtpReceiver._send_rtcp", ("self", "packet")),
    ("rtcrtpreceiver", "RTCRtpReceiver._send_rtcp_pli", ("self", "media_ssrc")),
    ("rtcrtpreceiver", "RTCRtpReceiver._send_rtcp_nack", ("self", "media_ssrc", "lost")),
    ("rtcrtpreceiver", "RTCRtpReceiver._set_rtcp_ssrc", ("self", "ssrc")),
    ("rtcrtpreceiver", "RTCRtpReceiver.getStats", ("self",)),
    ("jitterbuffer", "JitterBuffer.add", ("self", "packet")),
    ("rtp", "RtcpPsfbPacket.__init__", ("self", "fmt", "ssrc", "media_ssrc", "fci")),
    ("rtp", "RtcpRtpfbPacket.__init__", ("self", "fmt", "ssrc", "media_ssrc", "lost")),
    ("rtcrtptransceiver", "RTCRtpTransceiver.setCodecPreferences", ("self", "codecs")),
    ("rtcpeerconnection", "RTCPeerConnection.addTransceiver", ("self", "trackOrKind", "direction")),
    ("sdp", "SessionDescription.parse", ("sdp",)),
)
"""Module of aiortc, name in it, and the parameters that it must have."""


def check_aiortc() -> None:
    """Raises ChannelError where aiortc is not what this module was written against."""
    for module, name, parameters in _EXPECTED:
        found = _parameters(module, name)
        if found != parameters:
            has = "is not there" if found is None else f"takes {found}"
            _refuse(f"{module}.{name} {has}, expected {parameters}")
    receiver = import_module("aiortc.rtcrtpreceiver").RTCRtpReceiver
    for method in (receiver.__init__, receiver._handle_rtp_packet):
        if _JITTER_BUFFER not in method.__code__.co_names:
            _refuse(f"{method.__qualname__} does not use {_JITTER_BUFFER}")
    if not isinstance(CODECS.get("video"), list):
        _refuse("codecs.CODECS has no list of video codecs")
    if RTCP_PSFB_APP != 15 or RTCP_RTPFB_NACK != 1:
        _refuse("rtp numbers its feedback messages in another way")


def register_codec() -> RTCRtpCodecCapability:
    """Enter our payload in aiortc's table of video codecs, once, and return it."""
    check_aiortc()
    known = CODECS["video"]
    if not any(codec.mimeType == MIME_TYPE for codec in known):
        taken = {codec.payloadType for codecs in CODECS.values() for codec in codecs}
        free = [number for number in DYNAMIC_PAYLOAD_TYPES if number not in taken]
        if not free:
            _refuse("codecs.CODECS leaves no payload type free")
        feedback = [RTCRtcpFeedback(type="nack"), RTCRtcpFeedback(type="nack", parameter="pli")]
        known.append(
            RTCRtpCodecParameters(
                mimeType=MIME_TYPE, clockRate=RTP_CLOCK_HZ, payloadType=free[0], rtcpFeedback=feedback
            )
        )
    return next(codec for codec in get_capabilities("video").codecs if codec.mimeType == MIME_TYPE)


def without_extensions(description: str) -> str:
    """SDP that offers no RTP header extensions: they would take 12 bytes of every packet for nothing."""
    return "".join(line for line in description.splitlines(keepends=True) if not line.startswith("a=extmap:"))


class SendingStream:
    """Our stream as an outgoing track of `connection`; polls come from `link`, reports and PLIs go there.

    answer_nacks : send packets again that the far end reports missing, once each
    """

    def __init__(self, connection: RTCPeerConnection, link: PeerLink, answer_nacks: bool) -> None:
        self._link = link
        self._answer_nacks = answer_nacks
        self._answered: OrderedDict[int, None] = OrderedDict()
        codec = register_codec()
        transceiver = connection.addTransceiver(_HiddenTrack(), direction="sendonly")
        transceiver.setCodecPreferences([codec])
        self._sender = transceiver.sender
        self._handle_rtcp = _hook(self._sender, "_handle_rtcp_packet", self._on_rtcp)
        _hook(self._sender, "_next_encoded_frame", self._next_frame)

    async def path_stats(self) -> PathStats:
        """From the far end's last receiver report."""
        far = _find(await self._sender.getStats(), RTCRemoteInboundRtpStreamStats)
        if far is None:
            return PathStats()
        rtt_s = far.roundTripTime  # below 0 where a late report answers the sender report before the last
        return PathStats(
            far.packetsLost,
            far.jitter / RTP_CLOCK_HZ,
            far.fractionLost / 256,
            rtt_s if rtt_s is not None and rtt_s >= 0 else None,
        )

    async def _next_frame(self, codec: RTCRtpCodecParameters) -> RTCEncodedFrame:
        payloads, timestamp = await self._link.next_poll()
        return RTCEncodedFrame(payloads, timestamp, None)  # type: ignore[arg-type]  # None as aiortc does itself

    async def _on_rtcp(self, packet: AnyRtcpPacket) -> None:
        self._link.heard()
        if isinstance(packet, RtcpPsfbPacket) and packet.fmt in (RTCP_PSFB_PLI, RTCP_PSFB_FIR):
            self._link.want_refresh()
        elif isinstance(packet, RtcpPsfbPacket) and packet.fmt == RTCP_PSFB_APP:
            report = unpack_report(packet.fci)
            if report is None:
                self._link.drop("damaged")
            else:
                self._link.deliver(report, ends_poll=True)
        elif isinstance(packet, RtcpRtpfbPacket) and packet.fmt == RTCP_RTPFB_NACK:
            await self._on_nack(packet)
        else:
            await self._handle_rtcp(packet)

    async def _on_nack(self, packet: RtcpRtpfbPacket) -> None:
        self._link.count("nackCount")
        if not self._answer_nacks:
            return
        fresh = [number for number in packet.lost if number not in self._answered]
        self._answered.update(dict.fromkeys(fresh))
        while len(self._answered) > 2 * RTP_HISTORY_SIZE:
            self._answered.popitem(last=False)
        self._link.count("retransmittedPacketsSent", len(fresh))
        await self._handle_rtcp(replace(packet, lost=fresh))


class ReceivingStream:
    """The incoming track of `connection`, whose offer has been set; its payloads go to `link` as they arrive.

    Raises ChannelError when the far end does not offer our stream.
    """

    def __init__(self, connection: RTCPeerConnection, link: PeerLink) -> None:
        self._link = link
        self._pli_s = float("-inf")
        transceiver = _our_transceiver(connection)
        self._receiver = transceiver.receiver
        self._media_ssrc = _media_ssrc(connection)
        _hook(self._receiver, _JITTER_BUFFER, _Tap(link))
        self._handle_rtcp = _hook(self._receiver, "_handle_rtcp_packet", self._on_rtcp)
        self._send_nack = _hook(self._receiver, "_send_rtcp_nack", self._nack)
        self._ssrc = transceiver.sender._ssrc

    async def send_report(self, report: bytes) -> None:
        """Send one feedback report; where it asks for a refresh, a PLI goes along now and then."""
        await self._receiver._send_rtcp(
            RtcpPsfbPacket(
                fmt=RTCP_PSFB_APP, ssrc=self._ssrc, media_ssrc=self._media_ssrc, fci=pack_report(report)
            )
        )
        now_s = self._link.clock.now_s()
        if now_s - self._pli_s >= PLI_INTERVAL_S and _asks_for_refresh(report):
            self._pli_s = now_s
            await self.send_pli()

    async def send_pli(self) -> None:
        """Say that the picture is lost (RFC 4585, 6.3.1)."""
        self._link.count("pliCount")
        await self._receiver._send_rtcp_pli(self._media_ssrc)

    async def path_stats(self) -> PathStats:
        """As of now."""
        here = _find(await self._receiver.getStats(), RTCInboundRtpStreamStats)
        return PathStats() if here is None else PathStats(here.packetsLost, here.jitter / RTP_CLOCK_HZ)

    async def _on_rtcp(self, packet: AnyRtcpPacket) -> None:
        self._link.heard()
        await self._handle_rtcp(packet)

    async def _nack(self, media_ssrc: int, lost: list[int]) -> None:
        self._link.count("nackCount")
        await self._send_nack(media_ssrc, lost)


def pack_report(report: bytes) -> bytes:
    """Feedback control information of one report: name, length, bytes, zeros up to a multiple of four."""
    padding = -(len(report) + 2) % 4
    return _REPORT_NAME + len(report).to_bytes(2, "big") + report + bytes(padding)


def unpack_report(fci: bytes) -> bytes | None:
    """The report in `fci`, None where there is none of ours."""
    if len(fci) < 8 or fci[:4] != _REPORT_NAME:
        return None
    length = int.from_bytes(fci[4:6], "big")
    if not 0 < length <= min(MAX_DATAGRAM_BYTES, len(fci) - 6):
        return None
    return fci[6 : 6 + length]


class _Tap:
    """Stands where aiortc has its jitter buffer: nothing waits, nothing is decoded."""

    def __init__(self, link: PeerLink) -> None:
        self._link = link

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        """(send a PLI?, complete frame): never."""
        self._link.deliver(packet.payload, bool(packet.marker))
        return False, None


class _HiddenTrack(MediaStreamTrack):
    """aiortc sends only where there is a track; what it sends comes from the link instead."""

    kind = "video"

    async def recv(self) -> NoReturn:
        raise MediaStreamError


def _our_transceiver(connection: RTCPeerConnection) -> RTCRtpTransceiver:
    for transceiver in connection.getTransceivers():
        if transceiver._codecs and transceiver._codecs[0].mimeType == MIME_TYPE:
            return transceiver
    raise ChannelError("the far end offers no Semcast stream: does it run the same version?")


def _media_ssrc(connection: RTCPeerConnection) -> int:
    """Of the stream that the far end offers, from its description."""
    for media in sdp.SessionDescription.parse(connection.remoteDescription.sdp).media:
        if media.kind == "video" and media.ssrc:
            return int(media.ssrc[0].ssrc)
    raise ChannelError("the far end's offer does not say which stream is its own (no a=ssrc)")


def _asks_for_refresh(report: bytes) -> bool:
    try:
        return is_feedback(report) and parse_feedback(report).refresh
    except BitstreamError:
        return False


def _find(report: RTCStatsReport, kind: type) -> Any:
    return next((entry for entry in report.values() if isinstance(entry, kind)), None)


def _hook(owner: object, name: str, replacement: object) -> Callable[..., Awaitable[None]]:
    """Put `replacement` in the place of `owner.name`, for this object alone, and return what was there."""
    if not hasattr(owner, name):
        _refuse(f"{type(owner).__name__}.{name} is not there")
    original = getattr(owner, name)
    setattr(owner, name, replacement)
    return original


def _parameters(module: str, name: str) -> tuple[str, ...] | None:
    """Parameter names of `aiortc.<module>.<name>`, None where it does not exist."""
    try:
        found: Any = import_module(f"aiortc.{module}")
        for part in name.split("."):
            found = getattr(found, part)
        return tuple(inspect.signature(found).parameters)
    except (ImportError, AttributeError, TypeError, ValueError):
        return None


def _refuse(what: str) -> NoReturn:
    raise ChannelError(
        f"aiortc {version('aiortc')} is not the library that live links were written for ({what}): "
        "install the version in constraints.txt"
    )
