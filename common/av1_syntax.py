"""The order of the fields in the headers of an AV1 stream (AV1 specification 5.5 and 5.9), for the part of AV1 that
low-delay encoders use: inter frames that are shown, of the sequence's own size, in one tile, without segments, global
motion or film grain. Whatever else turns up is a BitstreamError.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from common.errors import BitstreamError

Field = Callable[[str, int], int]
"""Gives the value of the next field by its name, unique in its header, and its width in bits."""

_INTER_FRAME = 1
_MAX_TILE_WIDTH, _MAX_TILE_AREA = 4096, 4096 * 2304
SEQUENCE_HEADER, FRAME, HAS_SIZE = 1, 6, 2
"""Types of open bitstream units (OBU), and the bit of their first byte that says that a size follows."""


def expect(condition: bool, what: str) -> None:
    """BitstreamError unless `condition`."""
    if not condition:
        raise BitstreamError(f"{what} is not part of this stream format")


class Bits:
    """Big-endian bit reader over a few header bytes. at : bits taken so far"""

    def __init__(self, data: bytes) -> None:
        self._value, self._size, self.at = int.from_bytes(data, "big"), 8 * len(data), 0

    def take(self, count: int) -> int:
        if self.at + count > self._size:
            raise BitstreamError("codec header is cut short")
        self.at += count
        return (self._value >> (self._size - self.at)) & ((1 << count) - 1)

    def golomb(self) -> int:
        """Unsigned Exp-Golomb code (H.264 specification 9.1), below 2**16."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 15:
                raise BitstreamError("codec header holds a number that is too large")
        return (1 << zeros) - 1 + self.take(zeros)


@dataclass(frozen=True, slots=True)
class Sequence:
    """What frame headers depend on. Flags are 0 or 1; 2 in the two `force` fields means that each frame tells.

    order_hint_bits : width of the picture number in frame headers
    """

    width: int
    height: int
    large_blocks: int
    warped_motion: int
    frame_mvs: int
    force_screen_content: int
    force_integer_mv: int
    order_hint_bits: int
    cdef: int
    restoration: int
    separate_uv_delta: int


def split_obu(data: bytes) -> tuple[int, bytes, bytes]:
    """(type, payload, what follows) of the first OBU, which tells its size (AV1 specification 5.3)."""
    expect(len(data) > 1 and data[0] & 0x87 == HAS_SIZE, "an AV1 unit without a size")
    size = 0
    for at in range(1, min(5, len(data))):
        size |= (data[at] & 0x7F) << 7 * (at - 1)
        if data[at] < 0x80:
            expect(at + 1 + size <= len(data), "an AV1 unit that is cut short")
            return data[0] >> 3 & 15, data[at + 1 : at + 1 + size], data[at + 1 + size :]
    raise BitstreamError("impossible size of an AV1 unit")


def sequence_size(bits: Bits) -> tuple[int, int, bool]:
    """(width, height, whether it is of still pictures only): the beginning of a sequence header."""
    bits.take(3)  # seq_profile
    bits.take(1)  # still_picture
    reduced = bits.take(1)  # reduced_still_picture_header
    if reduced:
        bits.take(5)
    else:
        expect(not bits.take(1), "AV1 timing information")
        bits.take(1)  # initial_display_delay_present_flag
        for _ in range(bits.take(5) + 1):
            bits.take(12)
            if bits.take(5) > 7:
                bits.take(1)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(width_bits) + 1, bits.take(height_bits) + 1, bool(reduced)


def parse_sequence(payload: bytes) -> Sequence:
    """The sequence header of a video (AV1 specification 5.5.1)."""
    bits = Bits(payload[:48])
    width, height, stills = sequence_size(bits)
    expect(not stills and not bits.take(1), "AV1 of stills, or with frame numbers,")
    large_blocks = bits.take(1)
    bits.take(4)  # filter-intra, intra-edge filter, inter-intra and masked compounds
    warped_motion = bits.take(1)
    bits.take(1)  # enable_dual_filter
    expect(bool(bits.take(1)), "AV1 without order hints")
    bits.take(1)  # enable_jnt_comp
    frame_mvs = bits.take(1)
    screen = 2 if bits.take(1) else bits.take(1)
    integer = 2
    if screen:
        integer = 2 if bits.take(1) else bits.take(1)
    order_hint_bits = bits.take(3) + 1
    expect(not bits.take(1), "AV1 super-resolution")
    cdef, restoration = bits.take(1), bits.take(1)
    separate = _colour(bits)
    expect(not bits.take(1), "film grain")
    return Sequence(
        width, height, large_blocks, warped_motion, frame_mvs, screen, integer, order_hint_bits, cdef, restoration,
        separate,
    )  # fmt: skip


def _colour(bits: Bits) -> int:
    """color_config of 8-bit 4:2:0; returns separate_uv_delta_q."""
    expect(not bits.take(1) and not bits.take(1), "AV1 other than 8-bit 4:2:0")
    if bits.take(1):  # color_description_present_flag
        bits.take(24)
    bits.take(3)  # color_range, chroma_sample_position
    return bits.take(1)


def walk_frame_header(field: Field, sequence: Sequence) -> None:
    """Ask for every field of an inter frame's header, in order (AV1 specification 5.9.2)."""
    expect(field("show_existing_frame", 1) == 0, "a repeated AV1 frame")
    expect(field("frame_type", 2) == _INTER_FRAME, "another kind of AV1 frame")
    expect(field("show_frame", 1) == 1, "a hidden AV1 frame")
    expect(field("error_resilient_mode", 1) == 0, "AV1's error resilient mode")
    adapts = not field("disable_cdf_update", 1)
    integer_mv = _screen_content(field, sequence)
    expect(field("frame_size_override", 1) == 0, "a change of AV1's picture size")
    field("order_hint", sequence.order_hint_bits)
    field("primary_ref_frame", 3)
    field("refresh_frame_flags", 8)
    expect(field("frame_refs_short_signaling", 1) == 0, "short signalling of references")
    for number in range(7):
        field(f"ref_frame_idx_{number}", 3)
    expect(field("render_size_differs", 1) == 0, "an AV1 render size")
    if not integer_mv:
        field("allow_high_precision_mv", 1)
    if not field("filter_switchable", 1):
        field("interpolation_filter", 2)
    field("motion_mode_switchable", 1)
    if sequence.frame_mvs:
        field("use_ref_frame_mvs", 1)
    if adapts:
        field("disable_frame_end_update", 1)
    _one_tile(field, sequence)
    _quantiser(field, sequence)
    _loop_filter(field)
    if sequence.cdef:
        _cdef(field)
    if sequence.restoration:
        _restoration(field, sequence)
    _modes(field, sequence)


def _screen_content(field: Field, sequence: Sequence) -> int:
    """Returns force_integer_mv."""
    told = sequence.force_screen_content
    if not (field("allow_screen_content", 1) if told == 2 else told):
        return 0
    return field("force_integer_mv", 1) if sequence.force_integer_mv == 2 else sequence.force_integer_mv


def _one_tile(field: Field, sequence: Sequence) -> None:
    side = 128 if sequence.large_blocks else 64
    columns, rows = -(-sequence.width // side), -(-sequence.height // side)
    whole = columns <= _MAX_TILE_WIDTH // side and columns * rows <= _MAX_TILE_AREA // side**2
    expect(whole and field("uniform_tile_spacing", 1) == 1, "more than one AV1 tile")
    more_columns = columns > 1 and field("increment_tile_columns", 1)
    more_rows = rows > 1 and field("increment_tile_rows", 1)
    expect(not more_columns and not more_rows, "more than one AV1 tile")


def _quantiser(field: Field, sequence: Sequence) -> None:
    expect(field("base_q_idx", 8) > 0, "lossless AV1")
    for name in ("y_dc", "u_dc", "u_ac"):
        if name == "u_dc" and sequence.separate_uv_delta:
            expect(not field("diff_uv_delta", 1), "AV1 with a quantiser for each colour plane")
        if field(f"delta_{name}_coded", 1):
            field(f"delta_{name}", 7)
    expect(field("using_qmatrix", 1) == 0, "an AV1 quantiser matrix")
    expect(field("segmentation_enabled", 1) == 0, "AV1 segmentation")
    expect(field("delta_q_present", 1) == 0, "AV1 block quantisers")


def _loop_filter(field: Field) -> None:
    if field("filter_level_0", 6) | field("filter_level_1", 6):
        field("filter_level_u", 6)
        field("filter_level_v", 6)
    field("filter_sharpness", 3)
    if field("filter_delta_enabled", 1):
        expect(field("filter_delta_update", 1) == 0, "AV1 loop filter deltas")


def _cdef(field: Field) -> None:
    field("cdef_damping", 2)
    for number in range(1 << field("cdef_bits", 2)):
        for name, bits in (("y_primary", 4), ("y_secondary", 2), ("uv_primary", 4), ("uv_secondary", 2)):
            field(f"cdef_{name}_{number}", bits)


def _restoration(field: Field, sequence: Sequence) -> None:
    luma, *chroma = (field(f"restoration_type_{plane}", 2) for plane in range(3))
    if luma or any(chroma):
        if field("restoration_unit_shift", 1) and not sequence.large_blocks:
            field("restoration_unit_extra_shift", 1)
        if any(chroma):
            field("restoration_uv_shift", 1)


def _modes(field: Field, sequence: Sequence) -> None:
    field("tx_mode_select", 1)
    if field("reference_select", 1):
        field("skip_mode_present", 1)  # is there if two references are older: so after the first picture
    if sequence.warped_motion:
        field("allow_warped_motion", 1)
    field("reduced_tx_set", 1)
    for number in range(7):
        expect(field(f"is_global_{number}", 1) == 0, "AV1 global motion")
