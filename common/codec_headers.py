"""The picture size that a unit of AV1, VP9 or H.264 announces, read before any decoder sees the unit.

A few dozen bytes can announce a picture of many megabytes. Each `check_*` reads the headers that this project's
encoders write, and raises BitstreamError for another size, or for a header form that they never write: what cannot
be read cannot be trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from common.av1_syntax import Bits, expect, sequence_size
from common.errors import BitstreamError

START_CODE = b"\0\0\1"

SizeCheck = Callable[[bytes, tuple[int, int]], None]
"""Takes a unit and the only (width, height) that is accepted."""


def _compare(codec: str, found: tuple[int, int], size: tuple[int, int]) -> None:
    if found != size:
        raise BitstreamError(f"{codec} stream announces {found[0]}x{found[1]}, expected {size[0]}x{size[1]}")


def check_av1(data: bytes, size: tuple[int, int]) -> None:
    """The sequence header at the start of a unit, if there is one (AV1 specification 5.5.1).

    One that hides behind other units is left to the decoder's own limit.
    """
    if not data or (data[0] >> 3) & 15 != 1:  # OBU_SEQUENCE_HEADER comes first when there is one
        return
    width, height, _ = sequence_size(Bits(data[2:34]))
    _compare("AV1", (width, height), size)


_VP9_SYNC = 0x498342
_VP9_SRGB = 7


def check_vp9(data: bytes, size: tuple[int, int]) -> None:
    """The uncompressed header of a single frame (VP9 specification 6.2): profile 0, no superframes."""
    expect(len(data) > 1 and data[-1] >> 5 != 0b110, "a VP9 superframe")
    bits = Bits(data[:20])
    expect(bits.take(2) == 2, "other than a VP9 frame")
    expect(bits.take(2) == 0, "a VP9 profile above 0")
    expect(not bits.take(1), "a repeated VP9 frame")
    inter, shown, resilient = bits.take(1), bits.take(1), bits.take(1)
    expect(bool(shown), "a hidden VP9 frame")
    if not inter:
        expect(bits.take(24) == _VP9_SYNC, "other than a VP9 key frame")
        expect(bits.take(3) != _VP9_SRGB, "VP9 in RGB")
        bits.take(1)  # color_range
    else:
        bits.take(0 if resilient else 2)  # reset_frame_context
        bits.take(8 + 3 * 4)  # refresh_frame_flags, three references
        if bits.take(1) or bits.take(1) or bits.take(1):  # as large as one of the references
            return
    _compare("VP9", (bits.take(16) + 1, bits.take(16) + 1), size)


_H264_SLICE, _H264_KEY_SLICE, _H264_SPS, _H264_PPS = 1, 5, 7, 8
_H264_PROFILES = (66, 77, 100)  # baseline, main, high


def nal_units(data: bytes) -> Iterator[bytes]:
    """NAL units of an H.264 byte stream whose first start code was left out (H.264 specification Annex B)."""
    return (unit.rstrip(b"\0") for unit in data.split(START_CODE))


def check_h264(data: bytes, size: tuple[int, int]) -> None:
    """Every sequence parameter set of a unit (H.264 specification 7.3.2.1.1): progressive, 8-bit 4:2:0."""
    for unit in nal_units(data):
        kind = unit[0] & 31 if unit else 0
        expect(kind in (_H264_SLICE, _H264_KEY_SLICE, _H264_SPS, _H264_PPS), f"H.264 NAL unit type {kind}")
        if kind == _H264_SPS:
            _compare("H.264", _sps_size(Bits(unit[1:].replace(b"\0\0\3", b"\0\0"))), size)


def _sps_size(bits: Bits) -> tuple[int, int]:
    profile = bits.take(8)
    expect(profile in _H264_PROFILES, f"H.264 profile {profile}")
    bits.take(16)  # constraint flags, level
    bits.golomb()  # seq_parameter_set_id
    if profile == 100:
        sampling = bits.golomb(), bits.golomb(), bits.golomb(), bits.take(1), bits.take(1)
        expect(sampling == (1, 0, 0, 0, 0), "H.264 other than plain 8-bit 4:2:0")
    bits.golomb()  # log2_max_frame_num_minus4
    order = bits.golomb()
    expect(order in (0, 2), "H.264 picture order type 1")
    if order == 0:
        bits.golomb()
    bits.golomb()  # max_num_ref_frames
    bits.take(1)  # gaps_in_frame_num_value_allowed_flag
    width, height = 16 * (bits.golomb() + 1), 16 * (bits.golomb() + 1)
    expect(bool(bits.take(1)), "interlaced H.264")
    bits.take(1)  # direct_8x8_inference_flag
    if bits.take(1):  # frame_cropping_flag, in units of one chroma sample
        left, right, top, bottom = (bits.golomb() for _ in range(4))
        expect(left + right < 8 and top + bottom < 8, "cropping of whole H.264 macroblocks")
        width, height = width - 2 * (left + right), height - 2 * (top + bottom)
    return width, height
