"""Exact bytes of the stream's own layers and headers.

If one of these fails, streams of earlier versions no longer decode: raise `BITSTREAM_VERSION`.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from common import motion, semantics
from common.entropy import RangeReader, RangeWriter
from common.residual import Residual, decode_residual, encode_residual
from common.state import initial_state
from common.tables import TABLES_HASH
from common.types import Colour
from common.units import AnchorUnit, FrameUnit, NoteUnit, Region, ResidualUnit, StreamConfig
from common.wire import pack_anchor, pack_config, pack_frame, pack_note, pack_residual, parse_unit

BASE_DIGEST = 0x89ABCDEF
CONFIG = StreamConfig(
    0xBEEF, 640, 360, Fraction(30000, 1001), Fraction(1, 90000), Colour("bt601", True), 0xC0FFEE
)
FRAME = FrameUnit(
    0x0102, disposable=True, pts=1234567, mark=3, activate=2, drop_anchor=True, quality=40,
    motion=b"motion", labels=b"", guide=b"guide",
)  # fmt: skip
KEY = FrameUnit(0x0103, key=True, scale=4, quality=33, sharpness=2, guide=b"guide")
ANCHOR = AnchorUnit(0x0104, 7, 42, b"anchor")
PATCH = AnchorUnit(0x0104, 7, 42, b"anchor", Region(16, 32, 64, 80), 0x01234567)
RESIDUAL = ResidualUnit(0x0105, b"residual")


def wave(rows: int, cols: int, high: int) -> NDArray[np.int64]:
    """Whole numbers in 0..high-1 without any generator: a fixed hash of the position."""
    y, x = np.mgrid[:rows, :cols]
    return (y * 7919 + x * 104729 + y * x * 31) % 1009 % high


def motion_bytes() -> bytes:
    update = np.stack([wave(5, 6, 23) - 11, wave(6, 6, 301)[1:] - 150], axis=-1).astype(np.int16)
    writer = RangeWriter()
    motion.encode_update(writer, update, wave(5, 6, 3) == 0, motion.default_tables())
    return writer.finish()


def labels_bytes() -> bytes:
    return semantics.encode_labels(
        label_map(), wave(6, 8, 2).astype(np.uint8) * 15, semantics.default_tables()
    )[0]


def label_map() -> NDArray[np.uint8]:
    labels = wave(6, 8, 2).astype(np.uint8) * 15
    labels[2:4, 3:6] = 12
    return labels


def residual_bytes() -> bytes:
    wanted = tuple((wave(32 // s, 48 // s, 61) - 30).astype(np.int16) for s in (1, 2, 2))
    return encode_residual(wanted, np.array([[1, 0, 0], [0, 0, 1]], bool), 27)


def residual_digest(residual: Residual) -> int:
    digest = 0
    for plane in (residual.y, residual.u, residual.v):
        digest = zlib.crc32(plane.astype("<i2").tobytes(), digest)
    return digest


def test_motion() -> None:
    data = bytes.fromhex("bea1f7ff11c0706d7cd174f43a541d082d49a64b74ee65cddf371fad")
    assert motion_bytes() == data
    update, _ = motion.decode_update(RangeReader(data), 5, 6, motion.default_tables())
    assert np.array_equal(update[..., 0], np.where(wave(5, 6, 3) == 0, wave(5, 6, 23) - 11, 0))


def test_labels() -> None:
    data = bytes.fromhex("e2cf2b693fd922a2")
    assert labels_bytes() == data
    predicted = wave(6, 8, 2).astype(np.uint8) * 15
    labels, _ = semantics.decode_labels(data, predicted, semantics.default_tables())
    assert np.array_equal(labels, label_map())


def test_residual() -> None:
    data = residual_bytes()
    assert (len(data), zlib.crc32(data)) == (237, 0x5BFCC503)
    assert residual_digest(decode_residual(data, 32, 48)) == 0x78534BFE


def test_units() -> None:
    units = {
        pack_config(
            CONFIG, 0x01020304
        ).data: "0004265c60005356040301020304beef00c0ffee0c8d008c8005e802b0ea01e9070190bf05",
        pack_config(
            replace(CONFIG, guide_codec="h264"), 0x01020304
        ).data: "00042bf388e85356040b01020304beef00c0ffee0c8d008c8005e802b0ea01e9070190bf05",
        pack_frame(FRAME, BASE_DIGEST).data: "5f02b6af1f000012d687030228066d6f74696f6e006775696465",
        pack_frame(KEY, BASE_DIGEST).data: "630379ae70950208a16775696465",
        pack_anchor(ANCHOR).data: "8004fe181444072a00000104616e63686f72",
        pack_anchor(PATCH).data: "81046d3d4a18072a000001040102030401234567616e63686f72",
        pack_residual(RESIDUAL, BASE_DIGEST).data: "c005ffabeb71726573696475616c",
        pack_note(NoteUnit(b"note")).data: "e0001b3756fc6e6f7465",
    }
    for data, expected in units.items():
        assert data.hex() == expected


def test_units_of_old_streams_parse() -> None:
    frame = bytes.fromhex("5f02b6af1f000012d687030228066d6f74696f6e006775696465")
    assert parse_unit(frame, FRAME.slot, BASE_DIGEST) == FRAME
    key = bytes.fromhex("630379ae70950208a16775696465")
    assert parse_unit(key, KEY.slot, BASE_DIGEST) == KEY


def test_what_both_ends_start_from() -> None:
    assert initial_state(CONFIG).digest == 0x330161D3
    assert TABLES_HASH == 0x0C8D008C
