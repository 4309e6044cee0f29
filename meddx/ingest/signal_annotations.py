"""The bytes of a WFDB annotation file (MIT format) in, times and symbols of its annotations out.

Format: WFDB Applications Guide, annot(5).  A word of 16 bits holds a type (6 bits) and the step in time since the annotation before
(10 bits); types above 58 change the step, or carry numbers and texts.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

import numpy as np

from meddx.ingest.headers import Unreadable

SKIP, NUM, SUB, CHN, AUX, NOTE = 59, 60, 61, 62, 63, 22
SYMBOLS = {
    0: " ", 1: "N", 2: "L", 3: "R", 4: "a", 5: "V", 6: "F", 7: "J", 8: "A", 9: "S", 10: "E", 11: "j", 12: "/", 13: "Q", 14: "~", 16: "|",
    18: "s", 19: "T", 20: "*", 21: "D", 22: '"', 23: "=", 24: "p", 25: "B", 26: "^", 27: "t", 28: "+", 29: "u", 30: "?", 31: "!", 32: "[",
    33: "]", 34: "e", 35: "n", 36: "@", 37: "x", 38: "f", 39: "(", 40: ")", 41: "r",
}  # fmt: skip
# The beats of PhysioNet's table of annotation codes: flutter waves (!) and blocked P waves (x) are no beats there.
BEATS = frozenset("NLRBAaJSVrFejnE/fQ?")
_BEAT_CODES = frozenset(code for code, symbol in SYMBOLS.items() if symbol in BEATS)
_FAR = float(1 << 60)  # outside every record, and whole in int64
_RESOLUTION = re.compile(rb"## time resolution: *([0-9.]{1,20})")


@dataclass(frozen=True)
class Annotations:
    """`samples` int64 [n] in steps of `rate` Hz (None: of the record's rate), never before the one before; `symbols` [n]."""

    samples: np.ndarray
    symbols: list[str]
    rate: float | None

    def beats(self, rate: float) -> tuple[np.ndarray, list[str]]:
        """(int64 [beats] sample numbers at `rate`, their symbols), in the order of time."""
        chosen = [i for i, symbol in enumerate(self.symbols) if symbol in BEATS]
        samples = self.samples[chosen]
        if self.rate and self.rate != rate:
            samples = np.clip(np.rint(samples * (rate / self.rate)), -_FAR, _FAR).astype(np.int64)
        order = np.argsort(samples, kind="stable")  # a negative SKIP may step back
        return samples[order], [self.symbols[chosen[i]] for i in order]


def read_annotations(data: bytes) -> Annotations:
    """Every annotation of the file.  Raises Unreadable(annotations_unreadable) where it ends before its end mark."""
    words = memoryview(data)
    place, now = 0, 0
    samples: list[int] = []
    symbols: list[str] = []
    rate: float | None = None
    while True:
        code, step = _word(words, place)
        place += 2
        if code == 0 and step == 0:
            return Annotations(np.array(samples, np.int64), symbols, rate)
        if code == SKIP:
            if place + 4 > len(words):
                raise Unreadable("annotations_unreadable", "cut in a step of time")
            high, low = struct.unpack_from("<hH", words, place)
            now, place = now + high * 65536 + low, place + 4
        elif code == AUX:
            found = _RESOLUTION.match(bytes(words[place : place + step])) if samples and symbols[-1] == '"' else None
            rate = float(found[1]) or rate if found and found[1].count(b".") < 2 and found[1] != b"." else rate
            place += step + step % 2
        elif code < SKIP:
            now += step
            samples.append(now)
            symbols.append(SYMBOLS.get(code, f"[{code}]"))


def count_beats(data: bytes) -> int:
    """How many beats the file holds, counted without reading times or texts: the books' other column."""
    place = count = 0
    while True:
        code, step = _word(memoryview(data), place)
        if code == 0 and step == 0:
            return count
        count += code in _BEAT_CODES
        place += 2 + (4 if code == SKIP else step + step % 2 if code == AUX else 0)


def _word(data: memoryview, place: int) -> tuple[int, int]:
    """(type, step).  Raises Unreadable where the file has ended."""
    if place + 2 > len(data):
        raise Unreadable("annotations_unreadable", "no end mark: the file is cut")
    return data[place + 1] >> 2, data[place] | (data[place + 1] & 3) << 8
