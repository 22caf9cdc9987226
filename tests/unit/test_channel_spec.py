"""The channel SPEC string."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel.analog_spec import AnalogSpec
from channel.radio.mcs import MCS_NAMES
from channel.radio.spec import AwgnSpec, RayleighSpec, TdlSpec
from channel.spec import CleanSpec, Outage, PacketSpec, TraceSpec, parse_channel
from common.errors import ConfigError


def test_every_setting_of_the_documented_example() -> None:
    spec = parse_channel(
        "packet:loss=0.05,burst=3,delay_ms=40,jitter_ms=10,reorder=0.01,duplicate=0.02,"
        "corrupt=0,rate_kbps=32,queue_ms=300,outage=2.0+0.5"
    )
    assert spec == PacketSpec(
        loss=0.05,
        burst=3,
        delay_ms=40,
        jitter_ms=10,
        reorder=0.01,
        duplicate=0.02,
        corrupt=0,
        rate_kbps=32,
        queue_ms=300,
        outage=(Outage(start_s=2.0, duration_s=0.5),),
    )


def test_defaults_and_clean() -> None:
    assert parse_channel(" clean ") == CleanSpec()
    assert parse_channel("packet") == parse_channel("packet:") == PacketSpec()


def test_several_outages() -> None:
    spec = parse_channel("packet:outage=2.0+0.5/7+10")
    assert isinstance(spec, PacketSpec)
    assert [(o.start_s, o.duration_s) for o in spec.outage] == [(2.0, 0.5), (7.0, 10.0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("packet:los=0.1", "did you mean `loss`"),
        ("packet:delay=40", "did you mean `delay_ms`"),
        ("packet:rate_kbs=40", "did you mean `rate_kbps`"),
        ("packt:loss=0.1", "did you mean `packet`"),
        ("xyz", "known: clean, packet, trace"),
        ("", "known: clean, packet, trace"),
        ("packet:loss", "needs a value"),
        ("packet:loss=", "needs a value"),
        ("packet:loss=much", "not a number"),
        ("packet:loss=nan", "finite"),
        ("packet:rate_kbps=inf", "finite"),
        ("packet:loss=1.5", "channel `packet`: loss should be less than or equal to 1"),
        ("packet:burst=0", "greater than or equal to 1"),
        ("packet:loss=0.9,burst=3", "at most 0.75"),
        ("packet:loss=0.1,loss=0.2", "given twice"),
        ("packet:outage=2.0", "START\\+DURATION"),
        ("packet:outage=2+0", "duration_s"),
        ("packet:kind=clean", "no setting `kind`"),
        ("clean:loss=0.1", "takes no settings"),
        ("trace:", "needs a file"),
        ("awgn", "needs `snr_db`: write awgn:snr_db=VALUE"),
        ("awgn:snr=7", "did you mean `snr_db`"),
        ("awgn:snr_db=7,mcs=qpsk-2/3", "unknown `qpsk-2/3`; did you mean `qpsk-"),
        ("awgn:snr_db=7,doppler_hz=3", "no setting `doppler_hz`"),
        ("awgn:snr_db=7,uses_per_s=5000", "at least 120 are needed"),
        ("awgn:snr_db=7,uses_per_s=43000,mcs=qpsk-1/10", "no block shorter than 440 uses"),
        ("rayleigh:snr_db=7,noise=unknown", "did you mean `known`"),
        ("rayleigh:snr_db=7,pilots=1.5", "integer"),
        ("rayleigh:snr_db=7,noise=estimated", "needs pilots=2 or more"),
        ("tdl-d:snr_db=7", "did you mean `tdl-c`"),
        ("tdl-a:snr_db=7,coherence_ms=5", "no setting `coherence_ms`"),
        ("analog", "needs `snr_db`"),
        ("analog:snr=7", "did you mean `snr_db`"),
        ("analog:snr_db=7,kind=awgn", "no setting `kind`"),
        ("analog:snr_db=7,fading=raleigh", "unknown `raleigh`; did you mean `rayleigh`"),
        ("analog:snr_db=7,mcs=qpsk-2/3", "unknown `qpsk-2/3`; did you mean `qpsk-"),
        ("analog:snr_db=7,mcs=adaptive", "analog"),
        ("analog:snr_db=7,digital_share=1", "less than or equal to 0.9"),
        ("analog:snr_db=7,loss=2", "less than or equal to 1"),
    ],
)
def test_mistakes_get_one_clear_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_channel(text)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_analog_channels() -> None:
    assert parse_channel("analog:snr_db=7") == AnalogSpec(snr_db=7, mcs=MCS_NAMES[0])
    assert parse_channel(
        "analog:snr_db=-3,fading=rayleigh,coherence_ms=20,uses_per_s=48000,loss=0.1"
    ) == AnalogSpec(snr_db=-3, fading="rayleigh", coherence_ms=20, uses_per_s=48_000, loss=0.1)


def test_radio_channels() -> None:
    assert parse_channel("awgn:snr_db=7,mcs=qpsk-1/2") == AwgnSpec(snr_db=7, mcs="qpsk-1/2")
    spec = parse_channel("rayleigh:snr_db=-3,mcs=adaptive,coherence_ms=20,pilots=4,noise=estimated,tti_ms=5")
    assert spec == RayleighSpec(snr_db=-3, coherence_ms=20, pilots=4, noise="estimated", tti_ms=5)
    assert parse_channel("tdl-b:snr_db=12,doppler_hz=30,uses_per_s=1e5") == TdlSpec(
        kind="tdl-b", snr_db=12, doppler_hz=30, uses_per_s=100_000
    )


@given(st.text(max_size=60) | st.text(max_size=40).map(lambda rest: "packet:" + rest))
def test_any_text_gives_a_channel_or_a_config_error(text: str) -> None:
    try:
        parse_channel(text)
    except ConfigError as error:
        assert str(error)


def _trace(folder: Path, text: str) -> str:
    path = folder / "link.trace"
    path.write_text(text, encoding="utf-8")
    return f"trace:{path}"


def test_trace_file(tmp_path: Path) -> None:
    spec = parse_channel(_trace(tmp_path, "# a slow link\n0\n\n40\n40\n100\n") + ",delay_ms=25")
    assert isinstance(spec, TraceSpec)
    assert spec.opportunities_ms == (0, 40, 40, 100)
    assert spec.delay_ms == 25


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs 1 to"),
        ("0\n0\n", "above 0"),
        ("5\n4\n", "must not fall"),
        ("5\nfast\n", "line 2"),
        ("-5\n", "line 1"),
        ("1e3\n", "whole milliseconds"),
        ("é\n", "cannot read"),
        ("9" * 5000, "whole milliseconds"),
    ],
)
def test_bad_traces(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_channel(_trace(tmp_path, text))


def test_missing_trace_and_rate(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the trace"):
        parse_channel(f"trace:{tmp_path}/none")
    with pytest.raises(ConfigError, match="no setting `rate_kbps`"):
        parse_channel(_trace(tmp_path, "10\n") + ",rate_kbps=3")
