"""What crosses between server and page: packed as documented, refused where it makes no sense."""

from __future__ import annotations

import pytest

from common.errors import BitstreamError, UsageError
from receiver.web.messages import (
    CONCEALED,
    KNOWN_CONTROLS,
    LATE,
    LEVEL,
    PICTURE_HEADER,
    ChooseView,
    Control,
    Drawn,
    PageStats,
    SetControl,
    parse_browser_message,
    picture_message,
    setup_message,
)
from tests.page_pictures import shown

GOOD = [
    ('{"type": "drawn", "number": 7}', Drawn(type="drawn", number=7)),
    (
        '{"type": "view", "overlays": ["level"], "source": true}',
        ChooseView(type="view", overlays=["level"], source=True),
    ),
    (
        '{"type": "set", "name": "steps", "value": "auto"}',
        SetControl(type="set", name="steps", value="auto"),
    ),
    ('{"type": "set", "name": "loss", "value": 0.05}', SetControl(type="set", name="loss", value=0.05)),
]

BAD = [
    "", "[]", "null", "{", '{"type": "fly"}', '{"number": 1}', '{"type": "drawn", "number": -1}',
    '{"type": "drawn", "number": "1"}', '{"type": "drawn", "number": 1, "more": 2}',
    '{"type": "set", "name": "__class__", "value": 1}', '{"type": "set", "name": "loss", "value": NaN}',
    '{"type": "set", "name": "loss", "value": 1e300}', '{"type": "set", "name": "loss", "value": -1}',
    '{"type": "set", "name": "steps", "value": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}',
    '{"type": "view", "overlays": ["level", "level", "level", "level"], "source": false}',
    '{"type": "view", "overlays": ["heat"], "source": false}', '{"type": "record", "on": 1}',
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), GOOD)
def test_messages_of_the_page_are_read(text: str, message: object) -> None:
    assert parse_browser_message(text) == message


@pytest.mark.parametrize("text", BAD)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(BitstreamError, match="not a message of the page"):
        parse_browser_message(text)


def test_a_picture_says_what_it_is() -> None:
    data = picture_message(b"JPEG", shown(50, concealed=True, late=True, level="bridge4"), 9, LEVEL)
    header = PICTURE_HEADER.unpack(data[: PICTURE_HEADER.size])
    assert header == (1, CONCEALED | LATE | LEVEL, 125, 9, 50, 2_000_000, b"bridge4\0")
    assert data[PICTURE_HEADER.size :] == b"JPEG"


def test_a_control_takes_what_this_run_can_have() -> None:
    rate = Control("bitrate_bps", 24_000.0, 8_000, 100_000)
    assert [rate.checked(value) for value in (8_000, 50_000.0, 100_000)] == [8_000, 50_000.0, 100_000]
    steps = Control("steps", "auto", choices=("auto", "1"))
    assert steps.checked("1") == "1"


@pytest.mark.parametrize("value", [7_999.0, 100_001.0, "auto"])
def test_a_control_refuses_the_rest_and_says_its_range(value: float | str) -> None:
    with pytest.raises(UsageError, match="Bit rate goes from 8000 to 100000"):
        Control("bitrate_bps", 24_000.0, 8_000, 100_000).checked(value)
    with pytest.raises(UsageError, match="there is auto, 1"):
        Control("steps", "auto", choices=("auto", "1")).checked(value if value != "auto" else "2")


def test_the_page_is_told_of_every_control_and_which_exist() -> None:
    setup = setup_message({"loss": Control("loss", 0.02, 0, 0.5)}, None, (), False)
    values = {control["name"]: control["value"] for control in setup["controls"]}
    assert values == {**dict.fromkeys(KNOWN_CONTROLS), "loss": 0.02}


def test_figures_are_plain_values() -> None:
    message = PageStats(layer_bps=(("guide", 12.0),), uncertainty=1.5).as_message({"drawn": 3})
    assert (message["type"], message["layer_bps"], message["page"]) == (
        "stats",
        {"guide": 12.0},
        {"drawn": 3},
    )
