"""Detail carried over to later pictures, and network calls that are given up on their way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from common.config import DecoderSettings
from common.state import Composition
from common.types import Picture
from receiver.decoder import bridge
from receiver.decoder.carry import TOLERANCE, Detail, carried
from receiver.decoder.conditions import FrameFacts
from receiver.decoder.memory import half_size
from receiver.decoder.model import TinyBridge
from receiver.decoder.synth import BridgeSynthesizer

SIDE = 64
FACTS = FrameFacts(slot=3, guide_scale=4, guide_q=100)
PAINTED_PARTS = 5
"""Questions during one call."""


def never() -> bool:
    return False


def asked(limit: int) -> Callable[[], bool]:
    """Says stop from the question after `limit` on."""
    count = iter(range(1000))
    return lambda: next(count) >= limit


def scene(seed: int = 1, received: bool = False) -> Composition:
    rng = np.random.default_rng(seed)
    base = Picture(*(rng.integers(60, 200, (SIDE // k, SIDE // k)).astype(np.uint8) for k in (1, 2, 2)))
    cells = [np.zeros((SIDE // k, SIDE // k), np.uint8) for k in (8, 16, 16)]
    if received:
        cells[1][0, 0] = 1
    return Composition(base, None, base, cells[0], cells[1], cells[2])


def shifted(composition: Composition, by: int) -> Composition:
    return replace(composition, base=replace(composition.base, y=composition.base.y + np.uint8(by)))


def detail_on(composition: Composition, by: int = 10) -> Detail:
    """Every sample painted `by` steps brighter than the base picture."""
    painted = Picture(*(plane + np.uint8(by) for plane in composition.base.planes))
    doubt = np.full((SIDE // 8, SIDE // 8), 7, np.uint8)
    return Detail(composition.base, half_size(composition.base), painted, doubt)


def painter(seed: int = 1) -> BridgeSynthesizer:
    torch.manual_seed(seed)
    model = TinyBridge(widths=(8, 12, 16), middle_blocks=1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return BridgeSynthesizer(model, device="cpu", dtype=torch.float32)


def same(a: Picture, b: Picture) -> bool:
    return all(np.array_equal(p, q) for p, q in zip(a.planes, b.planes, strict=True))


def test_all_of_it_fits_where_nothing_has_changed() -> None:
    assert same(carried(detail_on(scene()), scene()), detail_on(scene()).painted)


def test_none_of_it_fits_where_all_has_changed() -> None:
    now = shifted(scene(), round(TOLERANCE))
    assert same(carried(detail_on(scene()), now), now.base)


def test_it_fades_as_the_base_picture_changes() -> None:
    kept = [
        float(np.mean(carried(detail_on(scene()), now).y.astype(int) - now.base.y))
        for now in (shifted(scene(), by) for by in range(9))
    ]
    assert kept == sorted(kept, reverse=True)
    assert kept[0] == 10.0 and kept[8] == 0.0


def test_what_was_received_stays_as_it_is() -> None:
    now = scene(received=True)
    picture = carried(detail_on(scene()), now)
    assert np.array_equal(picture.y[2:12, 2:12], now.base.y[2:12, 2:12])
    assert picture.y[-1, -1] == now.base.y[-1, -1] + 10


def test_the_level_below_one_step_carries_over_what_was_painted_last() -> None:
    one = painter()
    assert one.change(scene()) is None
    first = one.render(scene(), FACTS, "bridge1", never)
    assert one.change(scene()) == 0.0
    again = one.render(scene(), FACTS, "carry", never)
    assert again.carried and again.steps_done == 0 and same(again.picture, first.picture)
    assert again.uncertainty is not None and first.uncertainty is not None
    assert np.array_equal(again.uncertainty, first.uncertainty)
    assert one.held is again.picture


def test_nothing_is_carried_over_a_cut_a_reset_or_into_black() -> None:
    one, black = painter(), replace(scene(), base=Picture(*(np.zeros_like(p) for p in scene().base.planes)))
    fresh = one.render(scene(), FACTS, "carry", never)
    assert not fresh.carried and fresh.picture is not None and same(fresh.picture, scene().base)
    one.render(scene(), FACTS, "bridge1", never)
    cut = shifted(scene(), 40)
    for other in (cut, black):
        found = one.render(other, FACTS, "carry", never)
        assert not found.carried and same(found.picture, other.base)
    one.reset()
    assert one.change(scene()) is None


def test_another_size_has_no_detail() -> None:
    half = np.zeros((SIDE // 4, SIDE // 4), np.uint8)
    assert detail_on(scene()).change(half) is None


# --- giving up ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("questions", range(1 + PAINTED_PARTS))
def test_a_call_given_up_on_its_way_leaves_the_detail_painted_before(questions: int) -> None:
    one = painter()
    first = one.render(scene(), FACTS, "bridge1", never)
    given_up = one.render(scene(), FACTS, "bridge1", asked(questions))
    assert given_up.steps_done == 0 and given_up.carried and same(given_up.picture, first.picture)
    assert one.render(scene(), FACTS, "bridge1", never).steps_done == 1


def test_a_second_step_given_up_leaves_the_first() -> None:
    single = painter().render(scene(), FACTS, "bridge1", never)
    given_up = painter().render(scene(), FACTS, "bridge2", asked(2 * (1 + PAINTED_PARTS) - 1))
    assert given_up.steps_done == 1 and same(given_up.picture, single.picture)


def test_a_call_asks_between_its_parts() -> None:
    questions = 0

    def count() -> bool:
        nonlocal questions
        questions += 1
        return False

    painter().render(scene(), FACTS, "bridge1", count)
    assert questions == 1 + PAINTED_PARTS


# --- a step over the time of several pictures ---------------------------------------------------------------------


@pytest.mark.parametrize("parts", range(1, 1 + PAINTED_PARTS))
def test_a_step_is_gone_on_with_while_later_pictures_are_shown(parts: int) -> None:
    """In as many pictures as it takes, and then its detail is that of the picture that it was begun on."""
    one, now = painter(), shifted(scene(), 2)
    assert one.go_on(scene(), FACTS, asked(1 + parts)) is None
    assert not one.render(scene(), FACTS, "carry", never).carried
    pictures = 0
    while one.change(now) is None:
        assert one.go_on(now, FACTS, asked(1)) is None
        pictures += 1
    assert pictures == 1 + PAINTED_PARTS - parts
    assert one.change(scene()) == 0.0
    found, other = one.render(now, FACTS, "carry", never), painter()
    other.render(scene(), FACTS, "bridge1", never)
    assert found.carried and same(found.picture, other.render(now, FACTS, "carry", never).picture)


def test_with_time_enough_a_step_of_this_very_picture_is_done() -> None:
    found, whole = painter().go_on(scene(), FACTS, never), painter().render(scene(), FACTS, "bridge1", never)
    assert found is not None and found.steps_done == 1 and same(found.picture, whole.picture)


def test_what_was_begun_in_another_scene_is_not_gone_on_with() -> None:
    one, cut = painter(), shifted(scene(), 40)
    one.go_on(scene(), FACTS, asked(4))
    found = one.go_on(cut, FACTS, never)
    assert found is not None
    assert same(found.picture, painter().render(cut, FACTS, "bridge1", never).picture)


# --- denoising reuse ----------------------------------------------------------------------------------------------


def reusing() -> BridgeSynthesizer:
    one = painter()
    one._settings = DecoderSettings(reuse=True)
    return one


def test_a_still_scene_takes_fewer_calls_and_a_cut_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "switch_time", lambda change, u: 0.5 if change < 9 else 1.0)
    one = reusing()
    calls = [one.render(scene(), FACTS, "bridge4", never).steps_done for _ in range(3)]
    assert calls == [4, 2, 2]
    assert one.render(shifted(scene(), 10), FACTS, "bridge4", never).steps_done == 4
    assert one.render(shifted(scene(), 10), FACTS, "bridge2", never).steps_done == 1
    one.reset()
    assert one.render(shifted(scene(), 10), FACTS, "bridge4", never).steps_done == 4


def test_one_step_leaves_nothing_out_and_a_switch_at_once_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for start, alike in ((1.0, True), (0.25, False)):
        monkeypatch.setattr(bridge, "switch_time", lambda change, u, start=start: start)
        for level, same_either_way in (("bridge1", True), ("bridge4", alike)):
            plain, other = painter(), reusing()
            for slot in range(3):
                seen = [
                    one.render(shifted(scene(), slot), FACTS, level, never).picture for one in (plain, other)
                ]
            assert same(*seen) == same_either_way


def test_threads_are_chosen_where_they_are_the_painters_own() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        one = painter()
        assert one.threads == (1, 2)
        one.use_threads(1)
        assert torch.get_num_threads() == 1
        torch.set_num_threads(1)
        alone = painter()
        assert alone.threads == (1,)
        alone.use_threads(1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
