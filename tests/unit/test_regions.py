"""Boxes of a clip: parsed strictly, measured only inside."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.regions import box_psnr, main, parse_box
from common.errors import UsageError
from common.types import Picture


def grey(value: int) -> Picture:
    return Picture(np.full((64, 64), value, np.uint8), *(np.full((32, 32), 128, np.uint8) for _ in range(2)))


def test_a_box_has_a_name_and_four_numbers() -> None:
    assert parse_box("mouth=190,262,150,72") == ("mouth", (190, 262, 150, 72))


@pytest.mark.parametrize(
    "text", ["mouth", "mouth=1,2,3", "mouth=a,b,c,d", "=1,2,3,4", "m=1,2,0,4", "m=-1,2,3,4"]
)
def test_what_is_no_box_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a box"):
        parse_box(text)


def test_only_the_inside_counts() -> None:
    source, ours = [grey(100)] * 2, [grey(100), grey(100)]
    spoilt = ours[0].y.copy()
    spoilt[40:, 40:] = 0
    ours[0] = Picture(spoilt, ours[0].u, ours[0].v)
    assert box_psnr(ours, source, (0, 0, 40, 40)) > 80
    assert box_psnr(ours, source, (40, 40, 10, 10)) == pytest.approx(
        10 * np.log10(255**2 / (100**2 / 2)), abs=1e-3
    )


def test_a_box_outside_the_picture_is_refused() -> None:
    with pytest.raises(UsageError, match="leaves pictures of 64x64"):
        box_psnr([grey(1)], [grey(1)], (60, 0, 10, 10))


def test_a_user_s_mistake_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["clip.mp4", "mouth=1"])
    assert "is not a box" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="1"):
        main(["missing.mp4", "mouth=1,1,8,8"])
    assert "missing.mp4" in capsys.readouterr().err
