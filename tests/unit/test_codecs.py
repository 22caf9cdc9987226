"""The decoders behind their guard: exact, one picture per unit, and unimpressed by damaged data."""

from __future__ import annotations

import contextlib
import os
import sys
from fractions import Fraction
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.codec_headers import START_CODE, check_h264, check_vp9
from common.codecs import TEMPORAL_DELIMITER, Av1Decoder, GuideDecoder, strip_delimiter
from common.errors import BitstreamError, CodecError
from common.state import picture_digest
from common.types import GuideCodec, Picture
from sender.coded import CodedPicture
from sender.guide import ENCODERS

SIDE = 64
CODECS: tuple[GuideCodec, ...] = get_args(GuideCodec)


def moving(slot: int, side: int = SIDE) -> Picture:
    """A smooth pattern that moves by a pixel a frame."""
    y, x = np.mgrid[:side, :side]
    luma = np.round(128 + 60 * np.sin(0.2 * (x + slot)) + 50 * np.cos(0.15 * y)).astype(np.uint8)
    return Picture(luma, np.ascontiguousarray(luma[::2, ::2]), np.ascontiguousarray(luma[1::2, 1::2]))


def encoded(
    codec: GuideCodec, count: int, side: int = SIDE, keys: tuple[int, ...] = (0,)
) -> list[CodedPicture]:
    encoder = ENCODERS[codec](side, side, Fraction(25), 12)
    try:
        return [encoder.encode(moving(slot, side), 30, slot in keys) for slot in range(count)]
    finally:
        encoder.close()


@pytest.fixture(scope="module", params=CODECS)
def codec(request: pytest.FixtureRequest) -> GuideCodec:
    return request.param


@pytest.fixture(scope="module")
def stream(codec: GuideCodec) -> list[CodedPicture]:
    """Nine pictures, the first and the sixth are key pictures."""
    return encoded(codec, 9, keys=(0, 5))


def test_every_unit_is_one_picture_near_its_source(codec: GuideCodec, stream: list[CodedPicture]) -> None:
    decoder = GuideDecoder(codec, SIDE, SIDE)
    for slot, coded in enumerate(stream):
        picture = decoder.decode(coded.data)
        assert np.abs(picture.y.astype(int) - moving(slot).y).mean() < 6
        assert picture.u.shape == (SIDE // 2, SIDE // 2)
        assert picture.y.flags.owndata or picture.y.base is None or picture.y.flags.c_contiguous


def test_two_decoders_agree_and_disposable_pictures_are_disposable(
    codec: GuideCodec, stream: list[CodedPicture]
) -> None:
    every, some = GuideDecoder(codec, SIDE, SIDE), GuideDecoder(codec, SIDE, SIDE)
    assert any(coded.disposable for coded in stream) == (codec != "h264")
    for coded in stream:
        first = picture_digest(every.decode(coded.data))
        if not coded.disposable:
            assert picture_digest(some.decode(coded.data)) == first


def test_the_delimiter_is_left_out_once() -> None:
    assert strip_delimiter(TEMPORAL_DELIMITER + b"rest") == b"rest"
    assert strip_delimiter(b"rest") == b"rest"


def test_another_size_is_refused_before_decoding(codec: GuideCodec, stream: list[CodedPicture]) -> None:
    with pytest.raises(BitstreamError, match="stream announces 64x64, expected 128x128"):
        GuideDecoder(codec, 128, 128).decode(stream[0].data)


def test_another_size_hidden_behind_other_units_is_refused() -> None:
    """61 bytes can announce a picture of many megabytes: refused by the decoder before it takes memory for it."""
    hidden = TEMPORAL_DELIMITER + encoded("av1", 1, 128)[0].data
    with pytest.raises(BitstreamError, match="cannot be decoded"):
        Av1Decoder(SIDE, SIDE).decode(hidden)


def test_a_second_parameter_set_of_another_size_is_refused() -> None:
    good, large = (encoded("h264", 1, side)[0].data for side in (SIDE, 128))
    with pytest.raises(BitstreamError, match="announces 128x128"):
        GuideDecoder("h264", SIDE, SIDE).decode(good + START_CODE + large)


def test_an_inter_picture_of_another_size_is_refused() -> None:
    """VP9 may change its size at any picture: frame marker, shown inter frame, references, then 16+16 bits of size."""
    bits = "10000111" + "0" * 20 + "000" + f"{127:016b}{127:016b}" + "0" * 25
    data = int(bits, 2).to_bytes(len(bits) // 8, "big")
    with pytest.raises(BitstreamError, match="announces 128x128"):
        check_vp9(data, (SIDE, SIDE))


@given(st.binary(max_size=60))
def test_any_header_is_read_or_refused(data: bytes) -> None:
    for check in (check_vp9, check_h264):
        for start in (b"", b"\x82\x49\x83\x42", b"\x87", b"\x67\x64\0\x0a"):
            with contextlib.suppress(BitstreamError):
                check(start + data, (SIDE, SIDE))


def test_pictures_beyond_reason_are_refused(codec: GuideCodec) -> None:
    with pytest.raises(CodecError, match="larger"):
        GuideDecoder(codec, 8192, 8192)


@settings(max_examples=60)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_survived_and_a_key_picture_still_decodes(
    codec: GuideCodec, stream: list[CodedPicture], noise: bytes, behind_a_key: bool
) -> None:
    """Two bytes can be a legal unit (18 80 shows an old picture again), so an error is not certain."""
    decoder = GuideDecoder(codec, SIDE, SIDE)
    if behind_a_key:
        decoder.decode(stream[0].data)
    with contextlib.suppress(BitstreamError):
        assert decoder.decode(noise).y.shape == (SIDE, SIDE)
    expected = picture_digest(GuideDecoder(codec, SIDE, SIDE).decode(stream[5].data))
    assert picture_digest(decoder.decode(stream[5].data)) == expected


@settings(max_examples=60)
@given(st.integers(0, 8), st.integers(0, 10_000), st.integers(1, 255))
def test_damaged_units_give_a_picture_or_an_error(
    codec: GuideCodec, stream: list[CodedPicture], slot: int, place: int, flip: int
) -> None:
    decoder = GuideDecoder(codec, SIDE, SIDE)
    for index, coded in enumerate(stream[: slot + 1]):
        data = bytearray(coded.data)
        if index == slot:
            data[place % len(data)] ^= flip
        try:
            assert decoder.decode(bytes(data)).y.shape == (SIDE, SIDE)
        except BitstreamError:
            assert index == slot
    with_key = GuideDecoder(codec, SIDE, SIDE).decode(stream[0].data)
    assert with_key.y.shape == (SIDE, SIDE)


def test_every_cut_of_a_key_picture_is_survived(codec: GuideCodec, stream: list[CodedPicture]) -> None:
    data = stream[0].data
    for length in range(len(data)):
        try:
            picture = GuideDecoder(codec, SIDE, SIDE).decode(data[:length])
        except BitstreamError:
            continue
        assert picture.y.shape == (SIDE, SIDE)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell of threads")
def test_no_encoder_thread_has_real_time_priority() -> None:
    """SVT-AV1 asks for it when it runs as root, and would starve the receiver."""
    encoder = ENCODERS["av1"](SIDE, SIDE, Fraction(25), 12)
    try:
        policies = {os.sched_getscheduler(int(task.name)) for task in Path("/proc/self/task").iterdir()}
    finally:
        encoder.close()
    assert policies == {os.SCHED_OTHER}
