"""Frame headers of the guide: lossless for anything, small for what the encoder writes, harmless for damaged data."""

from __future__ import annotations

import json
from fractions import Fraction
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.av1_headers import HeaderContext, begin, expand, shrink
from common.av1_syntax import parse_sequence, split_obu, walk_frame_header
from common.errors import BitstreamError
from common.tables import HEADER_TABLES
from common.types import Picture
from sender.coded import CodedPicture
from sender.svtav1 import SvtAv1Encoder
from training.clips import ClipFrames
from training.headers import Counting, as_text, clip_counts

SIDE = 96


def moving(slot: int) -> Picture:
    """A pattern that moves, with a little noise, so that every tool of the codec has something to do."""
    y, x = np.mgrid[:SIDE, :SIDE]
    noise = np.random.default_rng(slot).normal(0, 4, (SIDE, SIDE))
    luma = np.clip(128 + 60 * np.sin(0.2 * (x + 2 * slot)) + 50 * np.cos(0.15 * y) + noise, 0, 255).astype(
        np.uint8
    )
    return Picture(luma, np.ascontiguousarray(luma[::2, ::2]), np.ascontiguousarray(luma[1::2, 1::2]))


def encoded(quantisers: list[int], keys: tuple[int, ...] = (0,), preset: int = 9) -> list[CodedPicture]:
    encoder = SvtAv1Encoder(SIDE, SIDE, Fraction(25), preset)
    try:
        return [encoder.encode(moving(slot), q, slot in keys) for slot, q in enumerate(quantisers)]
    finally:
        encoder.close()


@pytest.fixture(scope="module")
def stream() -> list[CodedPicture]:
    """Three seconds with quantisers as rate control gives them, and a second key picture."""
    offsets = (-9, 4, 0, 4)
    return encoded([48 + slot // 9 + offsets[slot % 4] for slot in range(75)], keys=(0, 41))


def coded(stream: list[CodedPicture]) -> list[tuple[bytes, HeaderContext | None, bytes]]:
    """(picture, context that both ends have, code) of every inter picture."""
    context: HeaderContext | None = None
    out = []
    for slot, picture in enumerate(stream):
        if picture.key:
            context = begin(picture.data, slot)
            continue
        code = shrink(picture.data, context, slot)
        back, after = expand(code, context, slot)
        assert back == picture.data
        out.append((picture.data, context, code))
        context = context if picture.disposable else after
    return out


def test_pictures_come_back_to_the_bit_with_two_bytes_instead_of_a_header(stream: list[CodedPicture]) -> None:
    saved = [len(data) - len(code) for data, _, code in coded(stream)]
    assert np.mean(saved) > 15
    assert min(saved) > 8


def test_other_speeds_of_the_encoder_have_other_references_and_save_less() -> None:
    saved = [len(data) - len(code) for data, _, code in coded(encoded([50] * 30, preset=11))]
    assert np.mean(saved) > 7


def test_disposable_pictures_may_be_missing(stream: list[CodedPicture]) -> None:
    """Their headers are predicted from, and predict, nothing: the receiver needs none of them."""
    context = None
    for slot, picture in enumerate(stream):
        if picture.key:
            context = begin(picture.data, slot)
        elif not picture.disposable:
            _, context = expand(shrink(picture.data, context, slot), context, slot)
    assert context is not None
    assert context.count == 73 - 41  # the last picture is disposable


def test_frame_numbers_that_the_source_left_out_cost_little(stream: list[CodedPicture]) -> None:
    context, slot = begin(stream[0].data, 0), 0
    for number, picture in enumerate(stream[:40]):
        if number == 0:
            continue
        slot += 1 if number != 20 else 7
        code = shrink(picture.data, context, slot)
        back, after = expand(code, context, slot)
        assert back == picture.data
        assert len(code) < len(picture.data) - 6
        context = context if picture.disposable else after


def test_quantisers_that_jump_are_coded_too() -> None:
    rng = np.random.default_rng(4)
    for data, _, code in coded(encoded([30, *(int(q) for q in rng.integers(1, 64, 40))])):
        assert len(code) < len(data)


@given(st.binary(max_size=200), st.integers(1, 300))
def test_any_bytes_come_back(stream: list[CodedPicture], data: bytes, slot: int) -> None:
    context = begin(stream[0].data, 0)
    code = shrink(data, context, slot)
    assert expand(code, context, slot)[0] == data
    assert len(code) <= len(data) + 2


@given(data=st.data())
def test_damaged_codes_give_bytes_or_an_error(stream: list[CodedPicture], data: st.DataObject) -> None:
    pictures = coded(stream)
    _, context, code = pictures[data.draw(st.integers(0, len(pictures) - 1))]
    at = data.draw(st.integers(0, min(3, len(code) - 1)))
    damaged = code[:at] + bytes([data.draw(st.integers(0, 255))]) + code[at + 1 :]
    try:
        back, after = expand(damaged[: data.draw(st.integers(0, len(code)))], context, 5)
    except BitstreamError:
        return
    assert len(back) < len(code) + 80
    assert after is not None


def test_contexts_that_predict_otherwise_have_other_digests(stream: list[CodedPicture]) -> None:
    contexts = {context.digest for _, context, _ in coded(stream) if context}
    assert len(contexts) > 30


def test_without_a_known_sequence_pictures_pass_unchanged() -> None:
    assert begin(b"\x0a\x01\xff", 0) is None
    assert begin(b"", 0) is None
    assert shrink(b"abc", None, 1) == b"abc"
    assert expand(b"abc", None, 1) == (b"abc", None)


@pytest.mark.parametrize("data", [b"", b"\x32", b"\x30\x00", b"\x32\x05ab", b"\x32\xff\xff\xff\xff\xff"])
def test_units_of_impossible_size_are_refused(data: bytes) -> None:
    with pytest.raises(BitstreamError):
        split_obu(data)


def test_the_shipped_counts_are_what_the_training_command_writes() -> None:
    text = files("common").joinpath("assets", "av1_headers.json").read_text(encoding="utf-8")
    counts = {name: np.array(rows) for name, rows in json.loads(text).items()}
    assert as_text(counts) == text
    assert set(counts) == set(HEADER_TABLES)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("show_existing_frame", 1, "repeated"),
        ("frame_type", 0, "another kind"),
        ("show_frame", 0, "hidden"),
        ("error_resilient_mode", 1, "error resilient"),
        ("frame_size_override", 1, "picture size"),
        ("frame_refs_short_signaling", 1, "short signalling"),
        ("render_size_differs", 1, "render size"),
        ("increment_tile_columns", 1, "tile"),
        ("base_q_idx", 0, "lossless"),
        ("using_qmatrix", 1, "matrix"),
        ("segmentation_enabled", 1, "segmentation"),
        ("delta_q_present", 1, "block quantisers"),
        ("is_global_3", 1, "global motion"),
    ],
)
def test_headers_of_other_forms_are_refused_by_name(
    stream: list[CodedPicture], name: str, value: int, message: str
) -> None:
    _, payload, _ = split_obu(stream[0].data)
    usual = {"frame_type": 1, "show_frame": 1, "uniform_tile_spacing": 1, "base_q_idx": 100}
    with pytest.raises(BitstreamError, match=message):
        walk_frame_header(
            lambda field, _: value if field == name else usual.get(field, 0), parse_sequence(payload)
        )


def test_counting_sees_every_inter_picture_once() -> None:
    clip = ClipFrames(tuple(moving(slot) for slot in range(20)), Fraction(25))
    counting = Counting()
    clip_counts(clip, (SIDE, SIDE), 24_000.0, counting)
    assert counting.counts["verbatim"].sum() == counting.counts["order_hint"].sum() == 19
    assert counting.counts["quantiser"].sum() == 19
