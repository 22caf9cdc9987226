"""`python -m channel.radio.thresholds [SCHEME ...]`: measures what `mcs.py` takes for given, and checks the coder.

    every scheme x block length: SNR upwards until fewer than 1 block in 100 fails -> thresholds.json
    every published curve of `references.py`: SNR for a BLER of 0.01 here and there

Only the schemes named, if any are: the file keeps its rows of the others. Rates between two measured SNRs are
interpolated in the logarithm. About half an hour on one core for all schemes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from channel.radio.mcs import MCS_NAMES, THRESHOLDS_FILE, Mcs, McsName, block_bytes, mcs_named
from channel.radio.phy import ITERATIONS, BlockCode, CodedModem, Symbols, Variances
from channel.radio.references import REFERENCES, TOLERANCE_DB, Reference
from channel.radio.segments import HEADER_BYTES

BLOCK_USES = (120, 240, 480, 960, 1920)
LENGTHS = 3
"""Measured of each scheme: the shortest of these that hold a segment."""

STEP_DB = 0.2
BATCH = 50
ENOUGH_ERRORS = 60
MAX_BLOCKS = 2000
SEED = 20
TARGETS = (1e-1, 1e-2)

Failures = Callable[[float, int], int]
"""(SNR in dB, number of blocks) to how many of so many blocks fail."""

Rows = list[dict[str, object]]
"""Of one scheme, by block length."""


@dataclass(frozen=True, slots=True)
class Point:
    """How many of `blocks` blocks failed at an SNR."""

    snr_db: float
    blocks: int
    errors: int

    @property
    def bler(self) -> float:
        """Block error rate; half an error where there was none."""
        return max(self.errors, 0.5) / self.blocks


def awgn(symbols: Symbols, snr_db: float, generator: np.random.Generator) -> tuple[Symbols, Variances]:
    """`symbols` in white noise at an Es/N0, and the variance of the noise."""
    noise = 10 ** (-snr_db / 10)
    pairs = generator.standard_normal((*symbols.shape, 2)) @ np.array([1, 1j])
    return (symbols + np.sqrt(noise / 2) * pairs).astype(np.complex64), np.full(
        symbols.shape, noise, np.float32
    )


def block_failures(mcs: Mcs, uses: int, generator: np.random.Generator) -> Failures:
    """Failures of whole blocks, CRC and all."""
    code = BlockCode(mcs, uses)

    def failures(snr_db: float, blocks: int) -> int:
        payloads = [generator.bytes(code.payload_bytes) for _ in range(blocks)]
        decoded = code.decode(*awgn(code.encode(payloads), snr_db, generator))
        return sum(got != sent for got, sent in zip(decoded, payloads, strict=True))

    return failures


def reference_failures(k: int, n: int, generator: np.random.Generator) -> Failures:
    """Failures of the bare code over QPSK, with 20 iterations for every block."""
    coded = CodedModem(k, n, bits_per_symbol=2)

    @torch.no_grad()
    def failures(snr_db: float, blocks: int) -> int:
        bits: NDArray[np.float32] = generator.integers(0, 2, (blocks, k)).astype(np.float32)
        sent = torch.from_numpy(bits)
        logits = coded.logits(*awgn(coded.symbols(sent), snr_db, generator))
        return int((coded.decode(logits, sum(ITERATIONS))[0] != sent).any(dim=1).sum())

    return failures


def measure_point(
    failures: Failures, snr_db: float, batch: int = BATCH, enough_errors: int = ENOUGH_ERRORS
) -> Point:
    """Blocks until there are enough errors, or enough blocks."""
    blocks = errors = 0
    while errors < enough_errors and blocks < MAX_BLOCKS:
        errors += failures(snr_db, batch)
        blocks += batch
    return Point(round(snr_db, 3), blocks, errors)


def measure_curve(failures: Failures, snr_db: float) -> Iterator[Point]:
    """Points of rising SNR from about `snr_db` across the waterfall, until the last target is passed."""
    while failures(snr_db, BATCH) > 0.9 * BATCH:
        snr_db += 2 * STEP_DB
    while failures(snr_db, BATCH) < 0.3 * BATCH:
        snr_db -= 2 * STEP_DB
    point = measure_point(failures, snr_db)
    while point.bler >= TARGETS[-1]:
        yield point
        point = measure_point(failures, point.snr_db + STEP_DB)
    yield point


def snr_at(points: Sequence[Point], bler: float) -> float:
    """The SNR for an error rate: where the curve first falls below it."""
    rates = np.minimum.accumulate([point.bler for point in points])
    snr_db = [point.snr_db for point in points]
    return float(np.interp(-np.log10(bler), -np.log10(rates), snr_db))


def measured_lengths(mcs: Mcs) -> tuple[int, ...]:
    """Channel uses of the blocks with which a scheme is measured."""
    return tuple(uses for uses in BLOCK_USES if block_bytes(mcs, uses) > HEADER_BYTES)[:LENGTHS]


def measure_thresholds(names: Sequence[McsName], bar: Progress) -> dict[str, Rows]:
    """Rows of `thresholds.json`, by scheme."""
    task = bar.add_task("thresholds", total=len(names) * LENGTHS)
    rows: dict[str, Rows] = {name: [] for name in names}
    for name in names:
        for uses in measured_lengths(mcs_named(name)):
            row = measure_row(mcs_named(name), uses)
            rows[name].append(row)
            at_1e1, at_1e2 = row["bler_1e-1"], row["bler_1e-2"]
            bar.console.print(f"{name:10} {uses:4} uses: {at_1e1:6.2f} dB at 0.1, {at_1e2:6.2f} dB at 0.01")
            bar.advance(task)
    return rows


def measure_row(mcs: Mcs, uses: int) -> dict[str, object]:
    """Thresholds of a scheme at one length, and the curve that they are from."""
    generator = np.random.default_rng([SEED, uses, crc32(mcs.name.encode())])
    capacity_db = 10 * np.log10(2 ** float(mcs.bits_per_use) - 1)
    points = list(measure_curve(block_failures(mcs, uses, generator), capacity_db + 1.0))
    at_1e1, at_1e2 = (round(snr_at(points, target), 2) for target in TARGETS)
    curve = [list(asdict(point).values()) for point in points]
    return {"uses": uses, "bler_1e-1": at_1e1, "bler_1e-2": at_1e2, "points": curve}


def check_references(bar: Progress) -> Table:
    """This coder beside the published curves."""
    table = Table("k", "n", "reference, dB", "here, dB", "within", title="SNR for a BLER of 0.01")
    for reference in bar.track(REFERENCES, description="references"):
        here_db, there_db = measure_reference(reference), reference.snr_db(TARGETS[-1])
        fits = abs(here_db - there_db) <= TOLERANCE_DB
        table.add_row(
            str(reference.k), str(reference.n), f"{there_db:.2f}", f"{here_db:.2f}", "yes" if fits else "NO"
        )
    return table


def measure_reference(reference: Reference) -> float:
    """The Eb/N0 for a BLER of 0.01 of the reference's code here."""
    failures = reference_failures(reference.k, reference.n, np.random.default_rng([SEED, reference.k]))
    steep = reference.k > 1000  # a tenth of a decibel is a decade: few errors are enough
    batch, enough_errors = (10, 15) if steep else (BATCH, ENOUGH_ERRORS)
    points = [
        measure_point(failures, reference.snr_db(bler), batch, enough_errors) for bler in (5e-2, 2e-2, 5e-3)
    ]
    return snr_at(points, TARGETS[-1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, check, print, and write the file beside this one."""
    parser = argparse.ArgumentParser(
        "python -m channel.radio.thresholds", description="Measure thresholds.json."
    )
    parser.add_argument(
        "schemes", nargs="*", metavar="SCHEME", help=f"{', '.join(MCS_NAMES)}; all by default"
    )
    named = parser.parse_args(arguments).schemes
    if unknown := sorted(set(named) - set(MCS_NAMES)):
        parser.error(f"unknown schemes: {', '.join(unknown)}; known: {', '.join(MCS_NAMES)}")
    console = Console(stderr=True)
    torch.set_num_threads(1)  # blocks are too small to share
    with Progress(console=console) as bar:
        if not named:
            console.print(check_references(bar))
        rows = measure_thresholds([name for name in MCS_NAMES if name in named or not named], bar)
    path = Path(__file__).with_name(THRESHOLDS_FILE)
    path.write_text(as_text(merged(rows, path.read_text(encoding="utf-8"))), encoding="utf-8")


def merged(rows: dict[str, Rows], text: str) -> dict[str, Rows]:
    """These rows, and those of other schemes from an earlier file, slowest scheme first."""
    known = {**json.loads(text)["thresholds"], **rows}
    return {name: known[name] for name in MCS_NAMES if name in known}


def as_text(rows: dict[str, Rows]) -> str:
    """`thresholds.json` with one line for each scheme and length."""
    made_by = f"python -m channel.radio.thresholds, sionna-no-rt {version('sionna-no-rt')}"
    what = "SNR (Es/N0, dB) for block error rates of 0.1 and 0.01 over AWGN; points: SNR, blocks, errors"
    head = json.dumps({"what": what, "made_by": made_by})[:-1]
    schemes = [
        f'"{name}": [\n  ' + ",\n  ".join(map(json.dumps, lengths)) + "\n ]" for name, lengths in rows.items()
    ]
    return head + ',\n "thresholds": {\n ' + ",\n ".join(schemes) + "\n }}\n"


if __name__ == "__main__":
    main()
