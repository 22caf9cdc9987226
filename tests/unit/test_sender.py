"""The sender: its parts on small pictures, and a session whose state is what its bytes say."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from common.codecs import Av1Decoder
from common.config import Config, ResidualSettings
from common.fusion import downsample
from common.motion import zero_field
from common.residual import decode_residual
from common.state import compose, initial_state, picture_digest
from common.types import Feedback, Picture, UnitKind
from common.units import ConfigUnit, FrameUnit, Region, StreamConfig
from common.wire import is_key, parse_unit
from sender.anchoring import AnchorDesk
from sender.anchors import AnchorOrder, AnchorState, Offer, encode_anchor
from sender.control import RateKeeper
from sender.guide import GuideCoder, still_size
from sender.pipeline import SenderSession
from sender.probe import Probe
from sender.rate import OFFSET, RateState, RateTarget, Role
from sender.residual import choose_residual
from sender.savings import gain_db
from sender.updates import FlowEstimator
from tests.small_stream import SIDE, STREAM, Recording, frame, open_session, record

# --- the guide's encoder -------------------------------------------------------------------------


def test_a_coarser_quantiser_makes_a_smaller_still() -> None:
    sizes = [still_size(frame(0).picture, STREAM, 2, quantiser, 12) for quantiser in (20, 40, 60)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] < sizes[0] / 3


def test_the_probe_chooses_finer_scales_for_higher_rates() -> None:
    pictures = [frame(slot).picture for slot in range(9)]
    scales = []
    for rate_bps in (4_000, 24_000, 2_000_000):
        scale, state = Probe(pictures, STREAM, RateTarget(rate_bps, 25.0), 12).choose()
        scales.append(scale)
        assert 1 <= state.quantiser <= 63
    assert scales == sorted(scales, reverse=True)
    assert (scales[0], scales[-1]) == (2, 1)


def test_the_probe_sees_the_noise_that_a_coarse_quantiser_hides() -> None:
    """Looked at coarsely, a still scene with noise costs nothing; at the rate it is given, it does."""
    rng, still, target = np.random.default_rng(0), frame(30).picture, RateTarget(600_000, 25.0)
    noisy = [
        replace(still, y=np.clip(still.y + rng.normal(0, 4, still.y.shape), 0, 255).astype(np.uint8))
        for _ in range(13)
    ]
    scale, state = Probe(noisy, STREAM, target, 12).choose()
    coder, sizes = GuideCoder(STREAM, scale, 12), []
    for index, picture in enumerate(noisy):
        role = Role.KEY if index == 0 else coder.role
        quantiser = round(min(63, max(1, state.quantiser + OFFSET[role])))
        sizes.append(len(coder.encode(picture, quantiser, key=index == 0).data))
    coder.close()
    assert 0.6 < np.mean(sizes[1:]) / target.picture_bytes < 1.5


# --- anchors and motion --------------------------------------------------------------------------


def test_anchors_are_about_as_large_as_allowed_and_decode() -> None:
    source = frame(30).picture
    for budget in (800, 2000):
        unit = encode_anchor(source, 30, 5, budget, Fraction(25), 12)
        assert (unit.slot, unit.anchor_id) == (30, 5)
        assert 0.5 * budget < len(unit.data) < 1.8 * budget
        picture = Av1Decoder(SIDE, SIDE).decode(unit.data)
        assert np.abs(picture.y.astype(int) - source.y).mean() < 12


def test_gain_is_how_much_nearer_the_base_is() -> None:
    source, guide = (
        Picture(*(np.full(s, v, np.uint8) for s in ((64, 64), (32, 32), (32, 32)))) for v in (100, 110)
    )
    near = Picture(source.y + np.uint8(1), source.u, source.v)
    assert gain_db(source, near, guide) == pytest.approx(20, abs=0.1)
    assert gain_db(source, guide, guide) == 0


def test_optical_flow_starts_from_what_is_known() -> None:
    y, x = np.mgrid[:128, :128]
    texture = (128 + 50 * np.sin(0.3 * y + 0.1 * x) + 50 * np.sin(0.12 * y - 0.35 * x)).astype(np.uint8)
    moved = np.roll(texture, (-3, 5), (0, 1))  # shows at p what the texture shows at p + (3, -5)
    field = FlowEstimator().field(moved, texture, zero_field(128, 128))
    assert np.median(field[1:-1, 1:-1, 0]) == pytest.approx(12, abs=2)
    assert np.median(field[1:-1, 1:-1, 1]) == pytest.approx(-20, abs=2)


# --- a session -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def story() -> Recording:
    """Slots 20 to 99: an anchor, its use, a refresh at 60, a scene cut at 80."""
    return record(range(20, 100), open_session(), refresh_at=(60,), launch_at=(28,))


def test_the_bytes_say_what_the_state_is(story: Recording) -> None:
    """A receiver that parses the units on the sender's own states finds every check right."""
    digest = initial_state(STREAM).digest
    for source, step in zip(story.frames, story.steps, strict=True):
        for unit in step.units:
            if unit.kind is UnitKind.FRAME:
                base = initial_state(STREAM).digest if is_key(unit.data) else digest
                parsed = parse_unit(unit.data, source.slot, base)
                assert isinstance(parsed, FrameUnit)
                assert (parsed.key, parsed.disposable) == (unit.key, unit.disposable)
                if not unit.disposable:
                    digest = step.state.digest
            elif unit.kind is UnitKind.RESIDUAL:
                parse_unit(unit.data, source.slot, step.state.digest)


def test_events_tell_the_story(story: Recording) -> None:
    happened = [(f.slot, event) for f, s in zip(story.frames, story.steps, strict=True) for event in s.events]
    assert (20, "key") in happened
    assert (60, "key") in happened and (60, "cut") not in happened
    assert (80, "key") in happened and (80, "cut") in happened
    launched = next(slot for slot, event in happened if event == "anchor")
    used = next(slot for slot, event in happened if event == "anchor in use")
    assert launched == 28
    assert launched + 3 <= used <= launched + 8
    keys = [slot for slot, event in happened if event == "key"]
    assert keys == [20, 60, 80]


def test_every_layer_is_used_and_accounted_for(story: Recording) -> None:
    parsed = [parse_unit(u.data, 0, 0) for u in story.units if u.kind in (UnitKind.CONFIG, UnitKind.ANCHOR)]
    assert any(isinstance(unit, ConfigUnit) and unit.config == STREAM for unit in parsed)
    sizes: dict[str, int] = {}
    for unit in story.units:
        assert sum(size for _, size in unit.layer_bytes) == len(unit.data)
        for layer, size in unit.layer_bytes:
            sizes[layer.name] = sizes.get(layer.name, 0) + size
    for layer in ("CONFIG", "GUIDE", "ANCHOR", "MOTION", "SEMANTICS", "OVERHEAD"):
        assert sizes[layer] > 0, layer
    assert sizes["GUIDE"] > 0.5 * sum(sizes.values())


def test_the_configuration_is_repeated_for_late_joiners(story: Recording) -> None:
    slots = [u.slot for u in story.units if u.kind is UnitKind.CONFIG]
    assert slots[0] == 20
    assert all(later - earlier <= 50 for earlier, later in itertools.pairwise(slots))
    assert len(slots) >= 2


def test_the_picture_gets_near_the_source(story: Recording) -> None:
    errors = [
        float(np.mean((compose(s.state).base.y.astype(float) - f.picture.y) ** 2))
        for f, s in zip(story.frames[20:40], story.steps[20:40], strict=True)
    ]
    assert 10 * np.log10(255**2 / np.mean(errors)) > 24


@pytest.mark.parametrize("rate_bps", [16_000, 100_000])
def test_the_rate_is_held_after_the_start(rate_bps: int) -> None:
    recording = record(range(0, 76), open_session(rate_bps, STREAM, "anchor.enabled=false"))
    size = sum(len(unit.data) for unit in recording.units)
    allowed = rate_bps / 8 * (76 / 25)
    assert 0.6 * allowed < size < 1.25 * allowed


def test_a_new_rate_is_followed_from_the_next_frame_on() -> None:
    session, sizes = open_session(80_000, STREAM, "anchor.enabled=false"), []
    for slot in range(100):
        if slot == 50:
            session.retarget(20_000)
        sizes.append(sum(len(unit.data) for unit in session.step(frame(slot)).units))
    session.close()
    assert 8e-3 * sum(sizes[25:50]) > 40
    assert 8e-3 * sum(sizes[76:100]) / (24 / 25) < 27


def test_a_key_on_its_way_is_not_asked_for_again() -> None:
    """Another one would only stand behind it; what it takes to arrive goes by its size and the rate."""
    session = open_session(30_000)
    first = session.step(frame(0))
    crossing = sum(len(unit.data) for unit in first.units) * 8 / 30_000 * 25
    keys = []
    for slot in range(1, 75):
        session.on_feedback(Feedback(slot, refresh=True))
        keys += [slot] if "key" in session.step(frame(slot)).events else []
    session.close()
    assert len(keys) >= 1
    assert keys[0] > crossing


def test_a_receiver_that_holds_the_key_and_lost_what_follows_gets_another_at_once() -> None:
    session = open_session(30_000)
    session.step(frame(20))
    session.on_feedback(Feedback(0, last_slot=20, refresh=True))
    assert "key" in session.step(frame(21)).events
    session.on_feedback(Feedback(1, last_slot=20, refresh=True))  # of before that key
    assert "key" not in session.step(frame(22)).events
    session.close()


def test_the_same_frames_give_the_same_bytes() -> None:
    first, second = (record(range(20, 36), open_session()) for _ in range(2))
    assert [u.data for u in first.units] == [u.data for u in second.units]


def test_time_stamps_are_sent_only_when_they_say_something() -> None:
    session = open_session()
    plain, late = frame(20), replace(frame(21), pts=40)
    first, second = session.step(plain), session.step(late)
    session.close()
    assert first.state.pts is None
    assert second.state.pts == 40


def test_a_refresh_asked_before_the_start_is_not_asked_again() -> None:
    session = open_session()
    session.on_feedback(Feedback(0, refresh=True))
    events = [session.step(frame(slot)).events for slot in range(20, 24)]
    session.close()
    assert ["key" in e for e in events] == [True, False, False, False]


def test_small_and_odd_sizes_are_padded() -> None:
    stream = replace(STREAM, width=50, height=70)
    session = open_session(30_000, stream, "guide.scale=1")
    y = frame(0).picture
    cropped = Picture(y.y[:70, :50], y.u[:35, :25], y.v[:35, :25])
    step = session.step(replace(frame(0), picture=cropped))
    session.close()
    assert compose(step.state).base.y.shape == (80, 64)


# --- anchors on a link that changes --------------------------------------------------------------

PART = Region(32, 32, 64, 64)


def launched(offer: Offer | None) -> SenderSession:
    """A sender that has just launched an anchor, at slot 24, which has not arrived."""
    session = open_session()
    for slot in range(20, 25):
        if slot == 24:
            session.order = AnchorOrder(launch=True, offer=offer)
        assert ("anchor" in session.step(frame(slot)).events) == (slot == 24)
    return session


@pytest.mark.parametrize("what", ["rate", "nothing"])
def test_an_anchor_is_given_up_when_the_rate_falls(what: str) -> None:
    session = launched(Offer(gain_db=3.0, size_bytes=1500, share=0.3, region=PART))
    session.anchors.scene_slot = -2500  # a scene that has lasted for long
    if what == "rate":
        session.retarget(1_500)
    steps = [session.step(frame(slot)) for slot in range(25, 41)]
    session.close()
    endings = [step for step in steps if "anchor given up" in step.events]
    assert len(endings) == (what == "rate")
    assert all([unit.ends_anchors for unit in step.units] == [True] for step in endings)
    assert (session.anchors.flight is None) == (what == "rate")


def test_an_anchor_that_has_arrived_is_not_given_up() -> None:
    session = launched(Offer(gain_db=3.0, size_bytes=1500, share=0.3, region=PART))
    session.order = AnchorOrder(give_up=True)
    session.on_feedback(Feedback(0, anchors=(0,)))
    events = [event for slot in range(25, 33) for event in session.step(frame(slot)).events]
    session.close()
    assert "anchor in use" in events and "anchor given up" not in events


def test_nothing_new_is_begun_for_a_while_after_one_was_given_up() -> None:
    desk = launched(None).anchors
    desk.state, desk.flight = AnchorState(), None
    assert desk.rest_slot <= 24
    session = launched(Offer(gain_db=0.1, size_bytes=1500, share=1.0))
    for slot in range(25, 29):
        session.step(frame(slot))
    session.close()
    assert session.anchors.flight is None
    assert session.anchors.rest_slot > 28 + 2 * 25


def test_key_frames_end_anchors_and_say_so() -> None:
    session = launched(None)
    session.refresh_asked = True
    units = [unit for slot in range(25, 31) for unit in session.step(frame(slot)).units]
    session.close()
    ends = [unit for unit in units if unit.ends_anchors]
    assert ends and all(unit.key for unit in ends)
    assert session.anchors.scene_slot == 20  # a refresh begins no scene


# --- residuals -----------------------------------------------------------------------------------

RESIDUAL = ResidualSettings()


def test_residuals_use_only_what_is_left_over() -> None:
    recording = record(range(10, 70), open_session(3_000_000, STREAM, "guide.scale=1"))
    sent = [step.state.slot for step in recording.steps if UnitKind.RESIDUAL in {u.kind for u in step.units}]
    assert len(sent) > 5
    state, source = recording.steps[-1].state, recording.frames[-1].picture
    target = RateTarget(3_000_000, 25.0)
    unit = choose_residual(source, state, RateState(quantiser=2.0), target, RESIDUAL)
    assert unit is not None and unit.slot == state.slot
    for rate in (RateState(quantiser=40.0), RateState(quantiser=2.0, debt_bytes=1.0)):
        assert choose_residual(source, state, rate, target, RESIDUAL) is None
    assert (
        choose_residual(source, state, RateState(quantiser=2.0), RateTarget(16_000, 25.0), RESIDUAL) is None
    )


def test_a_perfect_picture_needs_no_residual() -> None:
    (step,) = record([20], open_session()).steps
    base = compose(step.state).base
    assert (
        choose_residual(base, step.state, RateState(quantiser=2.0), RateTarget(3_000_000, 25.0), RESIDUAL)
        is None
    )


def test_a_residual_brings_the_picture_nearer() -> None:
    recording = record([20], open_session())
    state, source = recording.steps[0].state, recording.frames[0].picture
    unit = choose_residual(source, state, RateState(quantiser=2.0), RateTarget(3_000_000, 25.0), RESIDUAL)
    assert unit is not None
    plain, corrected = (compose(state, r).base for r in (None, decode_residual(unit.data, SIDE, SIDE)))
    before, after = (float(np.mean((p.y.astype(float) - source.y) ** 2)) for p in (plain, corrected))
    assert after < 0.05 * before


def test_labels_say_where_corrections_come_first() -> None:
    recording = record([20], open_session())
    state, source = recording.steps[0].state, recording.frames[0].picture
    rows, cols = state.labels.shape
    labels = np.zeros((rows, cols), np.uint8)
    labels[: rows // 2] = 15  # a person in the upper half
    labelled, target = replace(state, labels=labels, label_field=state.field), RateTarget(200_000, 25.0)

    def upper_share(settings: ResidualSettings) -> float:
        unit = choose_residual(source, labelled, RateState(quantiser=2.0), target, settings)
        assert unit is not None
        mask = decode_residual(unit.data, SIDE, SIDE).mask
        return float(mask[: rows // 2].sum() / mask.sum())

    assert upper_share(RESIDUAL) > upper_share(ResidualSettings(by_labels=False))


def test_the_guide_is_the_picture_made_smaller() -> None:
    coder = GuideCoder(STREAM, 2, speed=12)
    coded = coder.encode(frame(0).picture, 8, key=True)
    small = downsample(frame(0).picture, 2)
    decoded = coder.decode(coded.data)
    coder.close()
    assert np.abs(decoded.y.astype(int) - small.y).mean() < 3
    assert picture_digest(decoded) == picture_digest(Av1Decoder(64, 64).decode(coded.data))


def test_nothing_is_begun_that_the_end_of_the_stream_cuts_short() -> None:
    stream = StreamConfig(1, 256, 256, Fraction(25), Fraction(1, 25))
    settings, target = Config(), RateTarget(24_000.0, 25.0)
    desk = AnchorDesk(stream, settings, target, frames=200)
    assert desk.left_s(100) == 4.0
    assert AnchorDesk(stream, settings, target).left_s(100) == math.inf
    keeper = RateKeeper(stream, settings, target, replace(RateState(), quantiser=20.0, strained_s=-9.0))
    assert keeper.rescale_due(left_s=10.0) and not keeper.rescale_due(left_s=1.0)
