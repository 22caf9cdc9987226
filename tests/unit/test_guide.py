"""The guide's encoders: any of the three, one interface, one quantiser scale, and both ends of a link agree."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.codecs import GuideDecoder
from common.config import load_config
from common.errors import CodecError, ConfigError
from common.state import compose, picture_digest
from common.types import GuideCodec, Picture
from receiver.chain import SceneDecoder
from sender.coded import MAX_QP, bundled_library
from sender.guide import ENCODERS, GuideCoder
from sender.rate import ROLES, Role
from sender.x264 import h264_qp
from tests.small_stream import STREAM, Recording, frame, open_session, record

CODECS: tuple[GuideCodec, ...] = get_args(GuideCodec)
each_codec = pytest.mark.parametrize("codec", CODECS)


def noise(seed: int, width: int, height: int) -> Picture:
    """Coarse noise: hard to code, and different for every seed."""
    blocks = np.random.default_rng(seed).integers(0, 256, (3, -(-height // 8), -(-width // 8)), np.uint8)
    planes = [
        plane.repeat(8 // k, 0).repeat(8 // k, 1)[: height // k, : width // k]
        for plane, k in zip(blocks, (1, 2, 2), strict=True)
    ]
    return Picture(*(np.ascontiguousarray(plane) for plane in planes))


@each_codec
@settings(max_examples=6, deadline=None)
@given(
    width=st.integers(32, 60).map(lambda half: 2 * half),
    height=st.integers(32, 60).map(lambda half: 2 * half),
    orders=st.lists(st.tuples(st.integers(1, MAX_QP), st.booleans()), min_size=1, max_size=6),
    preset=st.sampled_from([6, 10, 13]),
)
def test_every_picture_comes_back_at_once(
    codec: GuideCodec, width: int, height: int, orders: list[tuple[int, bool]], preset: int
) -> None:
    """Any even size, quantisers and key pictures in any order; a decoder without the disposable pictures agrees."""
    encoder = ENCODERS[codec](width, height, Fraction(25), preset)
    every, some = GuideDecoder(codec, width, height), GuideDecoder(codec, width, height)
    for number, (quantiser, key) in enumerate(orders):
        position = encoder.position
        coded = encoder.encode(noise(number, width, height), quantiser, key or number == 0)
        assert coded.key == (key or number == 0) and not (coded.key and coded.disposable)
        if coded.disposable:
            assert ROLES[position] is Role.DISPOSABLE
        picture = every.decode(coded.data)
        assert (picture.width, picture.height) == (width, height)
        if not coded.disposable:
            assert picture_digest(some.decode(coded.data)) == picture_digest(picture)
    encoder.close()


@each_codec
@pytest.mark.parametrize("side", [64, 128])
def test_the_encoder_obeys_every_quantiser_without_delay(codec: GuideCodec, side: int) -> None:
    encoder, decoder = ENCODERS[codec](side, side, Fraction(25), 10), GuideDecoder(codec, side, side)
    errors = []
    for slot, quantiser in enumerate((60, 5, 60, 20, 40)):
        source = frame(slot, side).picture
        coded = encoder.encode(source, quantiser, key=True)
        assert coded.key and not coded.disposable
        errors.append(float(np.mean((decoder.decode(coded.data).y.astype(float) - source.y) ** 2)))
    encoder.close()
    assert errors[1] < errors[3] < errors[4] < min(errors[0], errors[2])


@each_codec
def test_the_structure_repeats_every_four_pictures(codec: GuideCodec) -> None:
    """Roles are known before encoding; a key picture takes the place of a base picture and starts again."""
    coder = GuideCoder(replace(STREAM, guide_codec=codec), 2, speed=12)
    seen = []
    for slot in range(16):
        key = slot in (0, 7)
        role = Role.KEY if key else coder.role
        coded = coder.encode(frame(slot).picture, 50, key)
        assert coded.key == key
        assert coded.disposable == (role is Role.DISPOSABLE and codec != "h264")
        seen.append(role)
    coder.close()
    assert seen[1:7] == [ROLES[place % 4] for place in range(1, 7)]
    assert seen[8:16] == [ROLES[place % 4] for place in range(1, 9)]


@each_codec
def test_what_an_encoder_cannot_take_is_refused(codec: GuideCodec) -> None:
    encoder = ENCODERS[codec](64, 64, Fraction(25), 10)
    with pytest.raises(ValueError, match="was opened for"):
        encoder.encode(frame(0).picture, 40)
    with pytest.raises(ValueError, match="is not 1"):
        encoder.encode(frame(0, 64).picture, 64)
    encoder.close()
    encoder.close()  # closing twice is harmless


def test_the_quantiser_scale_of_h264_falls_nowhere() -> None:
    scale = [h264_qp(qp) for qp in range(1, MAX_QP + 1)]
    assert scale == sorted(scale) and scale[0] >= 0 and scale[-1] == 51


def test_a_library_that_is_not_there_says_what_to_install() -> None:
    with pytest.raises(CodecError, match="install the PyAV wheel"):
        bundled_library("no-such-library")


def test_an_unknown_codec_is_a_usage_error() -> None:
    with pytest.raises(ConfigError, match="'av1', 'vp9' or 'h264'") as raised:
        load_config(None, ["guide.codec=hevc"])
    assert raised.value.exit_code == 2


# --- both ends -----------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["vp9", "h264"])
def story(request: pytest.FixtureRequest) -> Recording:
    """Two seconds with a refresh and an anchor; STREAM itself, which is AV1, is followed in test_chain.py."""
    session = open_session(40_000, replace(STREAM, guide_codec=request.param))
    return record(range(20, 60), session, refresh_at=[45], launch_at=[28])


def test_both_ends_agree_on_every_state_and_picture(story: Recording) -> None:
    decoder = SceneDecoder()
    for unit in story.units:
        decoder.push(unit.data, 0.0)
    assert decoder.config == story.steps[0].state.config and not decoder.mismatches
    assert decoder.counts["damaged"] == 0 and decoder.counts["anchor"] == 1
    for sent, step in zip(story.frames, story.steps, strict=True):
        if not step.units:
            continue
        scene = decoder.scene_at(sent.slot)
        assert scene is not None and scene.digest == step.state.digest
        received = compose(scene, decoder.residual_of(scene)).base
        assert picture_digest(received) == picture_digest(compose(step.state, step.residual).base)


@each_codec
def test_a_starved_link_leaves_out_only_what_nothing_refers_to(codec: GuideCodec) -> None:
    session = open_session(3_000, replace(STREAM, guide_codec=codec))
    story = record(range(20, 80), session)
    decoder = SceneDecoder()
    for unit in story.units:
        decoder.push(unit.data, 0.0)
    skipped = sum("skipped" in step.events for step in story.steps)
    assert (skipped > 0) == (codec != "h264")
    assert decoder.counts["frame"] + skipped == len(story.frames)
