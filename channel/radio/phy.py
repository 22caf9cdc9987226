"""Bytes to channel symbols and back: one block, or a batch of blocks of one length.

    bytes -> CRC24A -> 5G LDPC (TS 38.212: rate matching, bit interleaver) -> Gray QAM -> symbols
                            ~ air (channel.radio.fading) ~
    symbols, noise variance -> soft demapping -> LDPC decoding -> CRC -> bytes, or None for an erasure

Decoding is flooding belief propagation. It stops when the CRC holds, and gives up after 20 iterations.
What a scheme sends beyond rate 1/5 are the coded bits once more, from the first; the receiver adds up what it
hears of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from channel.radio.library import DEVICE, sionna_phy
from channel.radio.mcs import CRC_BITS, Mcs, block_bytes, longest_block_uses

Symbols = NDArray[np.complex64]
Variances = NDArray[np.float32]
Bits = NDArray[np.float32]

ITERATIONS = (4, 6, 10)
"""Decoder iterations before each look at the CRC, 20 in all."""

_MOST_BITS_SENT = 5
"""For each information bit, before coded bits are sent again: the lowest rate of the code is 1/5."""

_KEPT_CODES = 256


class Modem:
    """Gray QAM with unit mean power (TS 38.211).

    bits_per_symbol : 2, 4 or 6
    """

    def __init__(self, bits_per_symbol: int) -> None:
        mapping = sionna_phy("mapping")
        self._map = mapping.Mapper("qam", bits_per_symbol, device=DEVICE)
        self._demap = mapping.Demapper("app", "qam", bits_per_symbol, device=DEVICE)

    def symbols(self, bits: Tensor) -> Symbols:
        """[B, n] bits to [B, n / bits_per_symbol] symbols."""
        points: Symbols = self._map(bits).numpy()
        return points

    def logits(self, symbols: Symbols, noise: Variances) -> Tensor:
        """log p(1)/p(0) of every bit, [B, n], from symbols in noise of variance `noise`, both [B, uses]."""
        logits: Tensor = self._demap(torch.from_numpy(symbols), torch.from_numpy(noise))
        return logits


class CodedModem:
    """`k` information bits to `n` bits sent to symbols, and back, without any check."""

    def __init__(self, k: int, n: int, bits_per_symbol: int) -> None:
        ldpc = sionna_phy("fec.ldpc")
        self._length = min(n, _MOST_BITS_SENT * k // bits_per_symbol * bits_per_symbol)
        self._sent = torch.arange(n) % self._length
        self.modem = Modem(bits_per_symbol)
        self._encoder = ldpc.LDPC5GEncoder(k, self._length, bits_per_symbol, device=DEVICE, check_input=False)
        self._decoder = ldpc.LDPC5GDecoder(self._encoder, return_state=True, device=DEVICE)

    def symbols(self, bits: Tensor) -> Symbols:
        """[B, k] bits to [B, n / bits_per_symbol] symbols."""
        return self.modem.symbols(self._encoder(bits)[:, self._sent])

    def logits(self, symbols: Symbols, noise: Variances) -> Tensor:
        """log p(1)/p(0) of every coded bit, [B, length of the code], from symbols in noise, both [B, uses]."""
        heard = self.modem.logits(symbols, noise)
        return torch.zeros(len(heard), self._length).index_add_(1, self._sent, heard)

    def decode(self, logits: Tensor, iterations: int, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(bits [B, k], decoder's state) after so many more iterations on `logits`."""
        bits, state = self._decoder(logits, num_iter=iterations, msg_v2c=state)
        return bits, state


class BlockCode:
    """Coder of blocks of `uses` channel uses with one scheme. Raises ValueError for lengths it has no code for."""

    def __init__(self, mcs: Mcs, uses: int) -> None:
        self.payload_bytes = block_bytes(mcs, uses)
        if self.payload_bytes < 1 or uses > longest_block_uses(mcs):
            raise ValueError(f"no {mcs.name} block has {uses} channel uses")
        crc = sionna_phy("fec.crc")
        self._crc = crc.CRCEncoder("CRC24A", k=8 * self.payload_bytes, device=DEVICE)
        self._check = crc.CRCDecoder(self._crc, device=DEVICE)
        self._coded = CodedModem(
            8 * self.payload_bytes + CRC_BITS, uses * mcs.bits_per_symbol, mcs.bits_per_symbol
        )

    @torch.no_grad()
    def encode(self, payloads: Sequence[bytes]) -> Symbols:
        """Symbols [B, uses] of payloads of exactly `payload_bytes` each."""
        octets = np.frombuffer(b"".join(payloads), np.uint8).reshape(-1, self.payload_bytes)
        bits = torch.from_numpy(np.unpackbits(octets, axis=1).astype(np.float32))
        return self._coded.symbols(self._crc(bits))

    @torch.no_grad()
    def decode(self, symbols: Symbols, noise: Variances) -> list[bytes | None]:
        """Payloads, None for each block whose CRC fails.

        symbols : [B, uses] complex64, equalised
        noise : [B, uses] float32, variance of what is left of the noise in each
        """
        logits = self._coded.logits(symbols, noise)
        decoded: list[bytes | None] = [None] * len(logits)
        open_blocks, state = torch.arange(len(logits)), None
        for iterations in ITERATIONS:
            bits, state = self._coded.decode(logits, iterations, state)
            payload, valid = self._check(bits)
            valid = valid[:, 0]
            for index, row in zip(open_blocks[valid].tolist(), payload[valid], strict=True):
                decoded[index] = np.packbits(row.numpy().astype(np.uint8)).tobytes()
            if valid.all():
                break
            open_blocks, logits, state = open_blocks[~valid], logits[~valid], state[~valid]
        return decoded


@lru_cache(maxsize=_KEPT_CODES)
def block_code(mcs: Mcs, uses: int) -> BlockCode:
    """The coder of a length, built once."""
    return BlockCode(mcs, uses)
