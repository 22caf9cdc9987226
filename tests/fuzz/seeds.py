"""Makes the corpus anew: `python -m tests.fuzz.seeds`. Sound input of every reader, out of the golden stream.

Regressions stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from channel.packetise import Packetiser, PacketiserConfig
from channel.signalling.ice import IceServer
from channel.signalling.messages import Answer, Bye, Candidate, Offer, Refused, Renew, Somebody, Welcome
from channel.signalling.refusals import Reason
from channel.webrtc.payload import pack_report
from channel.webrtc.signaller import Signal
from common.av1_headers import HeaderContext, begin, expand
from common.container import MAGIC, piece_record, read_sgv, unit_record
from common.datagram import pack_feedback
from common.provenance import STATEMENT, Provenance, UncertaintySummary, WeightsId
from common.residual import encode_residual
from common.semantics import default_tables, encode_labels
from common.softcast import encode_group
from common.state import initial_state
from common.types import EncodedUnit, Feedback, Picture, UnitKind
from common.units import FrameUnit, GroupUnit, NoteUnit, ResidualUnit
from common.wire import is_key, kind_of, pack_group, pack_note, pack_residual, parse_unit, slot_near
from receiver.chain import SceneDecoder
from tests.fuzz.messages import token_of
from tests.fuzz.sealing import joined
from tests.fuzz.units import GOLDEN

CORPUS = Path(__file__).with_name("corpus")
REGRESSION = "regression-"
_SMALL_BYTES = 900


def golden_frames() -> Iterator[FrameUnit]:
    """The frames of the golden stream, parsed."""
    decoder = SceneDecoder()
    for data in read_sgv(GOLDEN):
        if kind_of(data) is UnitKind.FRAME and decoder.config is not None:
            slot = slot_near(data, decoder.newest_slot + 1)
            base = initial_state(decoder.config) if is_key(data) else decoder.state
            assert base is not None
            unit = parse_unit(data, slot, base.digest)
            assert isinstance(unit, FrameUnit)
            yield unit
        decoder.push(data, 0.0)


def seeds() -> dict[str, list[bytes]]:
    """Inputs by the name of their target."""
    units = [unit for unit in read_sgv(GOLDEN) if len(unit) <= _SMALL_BYTES]
    frames = [unit for unit in units if kind_of(unit) is UnitKind.FRAME]
    others = [unit for unit in units if kind_of(unit) is not UnitKind.FRAME]
    picked = [others[0], *frames[:4], *frames[20:40:6]]
    analog = _analog_units()
    datagrams = _datagrams(picked)
    reports = _reports()
    return {
        "wire": [*picked, *others[:3], *(unit.data for unit in analog), pack_note(NoteUnit(b"{}")).data],
        "container": [MAGIC + b"".join(map(unit_record, picked[:3])) + piece_record(b"piece", True)],
        "chain": [
            joined([_residual_unit()]),
            joined(frames[2:6]),
            joined(frames[30:33]),
            joined([others[0], *frames[1:3]]),
        ],
        "analog": [joined([unit.data for unit in analog])],
        "layers": _payloads(),
        "av1_headers": _headers(),
        "codec_headers": [*_headers()[-2:], _H264, _VP9],
        "short_code": [bytes([count]) + bytes(range(count, count + 40)) for count in (3, 12)],
        "datagram": datagrams,
        "reassembly": [joined(datagrams[:6]), joined(datagrams)],
        "feedback": [*reports, pack_report(reports[1])],
        "sending": [joined(reports * 2)],
        "signalling": _said(),
        "tokens": [token_of().encode()],
        "page": [text.encode() for text in _PAGE],
        "access": [joined(_ASKED)],
        "provenance": [Provenance(software="semcast").text().encode(), _PROVENANCE.text().encode()],
        "control": [joined([b'{"bitrate_bps": 48000}', b'{"type": "renew", "session": 3}', b"\x10datagram"])],
    }


_ASKED = [b"192.0.2.7:8080", b"http://192.0.2.7:8080", b"the token", b"198.51.100.1, [2001:db8::1]:80"]
_PROVENANCE = Provenance(
    software="semcast 0.1.0", model=WeightsId(name="tiny", sha256="0" * 64), pictures=90, generated_pictures=88,
    uncertainty=UncertaintySummary(mean=3.5, p95=9.25), statement=STATEMENT,
)  # fmt: skip
_PAGE = (
    '{"type": "drawn", "number": 17}',
    '{"type": "look", "visible": false}',
    '{"type": "view", "overlays": ["uncertainty", "level"], "source": true}',
    '{"type": "set", "name": "bitrate_bps", "value": 48000.0}',
    '{"type": "set", "name": "steps", "value": "auto"}',
    '{"type": "record", "on": true}',
)
_H264 = bytes.fromhex("6742c00bda08841b0110000003001000000303c0f162ea")
_VP9 = bytes.fromhex("824983420007f007f82400000000")


def _analog_units() -> list[EncodedUnit]:
    generator = np.random.default_rng(1)
    pictures = [
        Picture(*(generator.integers(0, 256, (side, side)).astype(np.uint8) for side in (64, 32, 32)))
        for _ in range(2)
    ]
    group = encode_group(pictures, 200)
    return [
        pack_group(GroupUnit(20, scene, 2, pts, group.metadata))
        for scene, pts in ((True, (40, 41)), (False, ()))
    ]


def _residual() -> bytes:
    generator = np.random.default_rng(2)
    wanted = tuple(generator.integers(-40, 40, (s, s)).astype(np.int16) for s in (128, 64, 64))
    return encode_residual(wanted, np.eye(8, dtype=bool) & (np.arange(8) < 2), 36)


def _residual_unit() -> bytes:
    return pack_residual(ResidualUnit(0, _residual()), 0).data


def _payloads() -> list[bytes]:
    frames = list(golden_frames())
    found = [payload for frame in frames for payload in (frame.motion, frame.labels) if payload]
    spots = encode_labels(np.eye(8, dtype=np.uint8) * 15, np.zeros((8, 8), np.uint8), default_tables())[0]
    return [*found[:6], _residual(), spots, _analog_units()[0].data[6:]]


def _headers() -> list[bytes]:
    """Reduced pictures, and as a decoder wants them."""
    context: HeaderContext | None = None
    reduced, whole = [], []
    for frame in golden_frames():
        guide = frame.guide or b""
        if frame.key:
            context = begin(guide, frame.slot)
            whole.append(guide[:60])
            continue
        data, after = expand(guide, context, frame.slot)
        context = context if frame.disposable else after
        reduced.append(guide[:40])
        whole.append(data)
    return [*reduced[:6], *[data for data in whole if len(data) <= 120][:6]]


def _datagrams(units: list[bytes]) -> list[bytes]:
    """Whole units, copies, FEC symbols, fragments and what was sent again."""
    packetiser = Packetiser(PacketiserConfig(rate_bps=100_000, copy_limit_bytes=32))
    out, now_s = [], 0.0
    for slot, unit in enumerate(units):
        kind = kind_of(unit)
        protect = kind is not UnitKind.FRAME or is_key(unit)
        sent = [EncodedUnit(kind, slot, unit, key=protect, protect=protect)]
        if slot == 2:
            sent.append(EncodedUnit(UnitKind.FRAME, slot, bytes(1500)))
        packetiser.push(sent, now_s)
        for _ in range(4):
            now_s += 0.03
            out += packetiser.poll(now_s)
    packetiser.on_feedback(Feedback(1, highest_seq=len(out) - 1, missing=(1, 2)), now_s)
    return [data for data in (out + packetiser.poll(now_s + 0.1)) if len(data) <= _SMALL_BYTES]


def _reports() -> list[bytes]:
    return [
        pack_feedback(report)
        for report in (
            Feedback(0, refresh=True),
            Feedback(7, 4, (1, 3), 0.25, 48_000.0, 12, (1, 2), held_ms=7),
            Feedback(65_535, 2, (65_500, 65_530, 1), 1.0, 1e6, 70_000, (255,), True, 90_000),
        )
    ]


def _said() -> list[bytes]:
    sdp = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n"
    near = Somebody(id="a", role="sender", session="s")
    ice = IceServer(urls=["turn:turn.example.org:3478?transport=udp"], username="u", credential="c")
    messages = (
        Offer(sdp=sdp, session=1, to="b"), Answer(sdp=sdp, session=1, to="a"), Renew(session=1), Bye(reason="over"),
        Candidate(candidate="candidate:1 1 udp 2130706431 192.0.2.1 50000 typ host", sdpMid="0", sdpMLineIndex=0),
        Welcome(id="b", role="receiver", members=[near], ice_servers=[ice], max_message_bytes=65_536),
        Refused(reason=Reason.TOO_FAST, message="slowly"),
    )  # fmt: skip
    signal = Signal("offer", 1, sdp).as_message()
    return [*(message.text().encode() for message in messages), str(dict(signal)).replace("'", '"').encode()]


def main() -> None:
    """Write the corpus."""
    for name, inputs in seeds().items():
        folder = CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("seed-*"):
            old.unlink()
        for number, data in enumerate(inputs):
            (folder / f"seed-{number:02}").write_bytes(data)


if __name__ == "__main__":
    main()
