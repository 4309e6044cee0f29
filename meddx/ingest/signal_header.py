"""The text of a WFDB header (.hea) in, what it says about the record and its signals out.

Format: WFDB Applications Guide, header(5).  Nothing is believed that the caller could not check: numbers are bounded here, sizes are
compared with the files by the reader before a byte of the signal is read.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from meddx.ingest.headers import Unreadable

MAX_HEADER_BYTES = 1 << 20
MAX_SIGNALS = 1024
DEFAULT_RATE = 250.0  # header(5): the rate of a record that states none
DEFAULT_GAIN = 200.0  # header(5): 0 or no gain means 200 units a mV, uncalibrated
_RECORD = re.compile(
    r"^(?P<name>[^\s/]+)(?P<segments>/\d+)?\s+(?P<signals>\d+)(?:\s+(?P<rate>[^\s/(]+)\S*(?:\s+(?P<samples>\d+)(?:\s.*)?)?)?\s*$"
)
_FORMAT = re.compile(r"^(?P<code>\d+)(?:x(?P<frame>\d+))?(?::(?P<skew>\d+))?(?:\+(?P<offset>\d+))?$")
_GAIN = re.compile(r"^(?P<gain>[^(/\s]+)(?:\((?P<baseline>[-+]?\d+)\))?(?:/(?P<units>\S+))?$")


@dataclass(frozen=True)
class SignalLine:
    """One signal: its file, how its samples are stored, and how they become physical units: (sample - baseline) / gain."""

    file: str
    code: str
    frame: int  # samples a frame
    skew: int  # frames by which the signal lags
    offset: int  # bytes before the first sample
    gain: float
    baseline: float
    initial: int  # where first differences (format 8) start
    lead: str


@dataclass(frozen=True)
class Header:
    """A record: `rate` in Hz (frames a second), `samples` a signal, None where the header leaves it to the file."""

    rate: float
    samples: int | None
    signals: tuple[SignalLine, ...]


def read_header(data: bytes) -> Header:
    """Parse it.  Raises Unreadable: header_unreadable, or format_unsupported for a record of several segments."""
    if len(data) > MAX_HEADER_BYTES:
        raise Unreadable("header_unreadable", "larger than 1 MB")
    lines = [line.strip() for line in data.decode("utf-8", "replace").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    found = _RECORD.match(lines[0]) if lines else None
    if found is None:
        raise Unreadable("header_unreadable", "no record line")
    if found["segments"]:
        raise Unreadable("format_unsupported", "a record of several segments")
    count = _bounded(found["signals"], MAX_SIGNALS, "number of signals")
    rate = _number(found["rate"], "rate") if found["rate"] else DEFAULT_RATE
    if not 0 < rate <= 1e7:
        raise Unreadable("header_unreadable", "a rate that cannot be")
    samples = _bounded(found["samples"], 1 << 62, "number of samples") if found["samples"] else 0
    if len(lines) != count + 1:
        raise Unreadable("header_unreadable", f"{len(lines) - 1} signal lines, {count} stated")
    return Header(rate, samples or None, tuple(_signal(line, place) for place, line in enumerate(lines[1:])))


def _signal(line: str, place: int) -> SignalLine:
    """file format [gain [resolution [zero [initial [checksum [block [description]]]]]]]; what is not there has its default."""
    words = line.split(None, 8)
    form = _FORMAT.match(words[1]) if len(words) > 1 else None
    if form is None:
        raise Unreadable("header_unreadable", f"signal line {place + 1}")
    if "/" in words[0] or "\\" in words[0] or words[0] in ("-", "~", "..", "."):
        raise Unreadable("header_unreadable", "a signal file that is not beside its header")
    gain = _GAIN.match(words[2]) if len(words) > 2 else None
    if len(words) > 2 and gain is None:
        raise Unreadable("header_unreadable", f"gain of signal {place + 1}")
    zero = _number(words[4], "zero") if len(words) > 4 else 0.0
    factor = _number(gain["gain"], "gain") if gain else 0.0
    return SignalLine(
        words[0],
        form["code"],
        max(1, _bounded(form["frame"] or "1", 1 << 16, "samples a frame")),
        _bounded(form["skew"] or "0", 1 << 31, "skew"),
        _bounded(form["offset"] or "0", 1 << 40, "offset"),
        factor or DEFAULT_GAIN,
        float(gain["baseline"]) if gain and gain["baseline"] else zero,
        int(_number(words[5], "initial value")) if len(words) > 5 else int(zero),
        words[8].strip() if len(words) > 8 else f"signal {place}",
    )


def _number(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise Unreadable("header_unreadable", what) from None
    if not math.isfinite(value) or abs(value) > 1e12:
        raise Unreadable("header_unreadable", what)
    return value


def _bounded(text: str, most: int, what: str) -> int:
    if len(text) > 19 or int(text) > most:
        raise Unreadable("header_unreadable", f"{what} too large")
    return int(text)
