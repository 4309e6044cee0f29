"""Commands in; how many times faster one is than another, how fast it is once it runs, what its start costs, how it grows, out.

Every measurement is of whole commands.  In a command `{out}` is an empty folder, `{fresh}` another (a cold cache), `{data}` the archive,
`{python}` this Python.  An archive is said as PATH:ROWS.  A line of JSON a measurement goes to --results.

    python tests/bench/night.py ratio  --a CMD --b CMD [--data D:N | --small D:N --large D:3N] [--target 3.5]
    python tests/bench/night.py steady --cmd CMD --small D:N --large D:3N
    python tests/bench/night.py growth --cmd CMD --data D:N D:3N D:10N
    python tests/bench/night.py repeat --cmd CMD --data D:100 [--keep]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from watching import Bench, Taken


@dataclass(frozen=True)
class Archive:
    path: str
    rows: int

    @classmethod
    def of(cls, text: str) -> Archive:
        path, _, rows = text.rpartition(":")
        return cls(path, int(rows))


@dataclass(frozen=True)
class Middle:
    """A median and the interval that holds the true one with (about) 95 %, from order statistics: no shape is assumed."""

    value: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: list[float]) -> Middle:
        """Five values give min to max, which is 94 %; fewer no interval."""
        ordered, count = sorted(values), len(values)
        if count < 5:
            return cls(statistics.median(ordered), -math.inf, math.inf, count)
        out, tail = 0, 0.5**count
        while (tail := tail + math.comb(count, out + 1) * 0.5**count) <= 0.025:
            out += 1
        return cls(statistics.median(ordered), ordered[out], ordered[count - 1 - out], count)

    def page(self) -> dict[str, Any]:
        return {name: value if math.isfinite(value) else None for name, value in vars(self).items()}

    def exp(self) -> Middle:
        return Middle(math.exp(self.value), math.exp(self.low), math.exp(self.high), self.count)

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f}, n {self.count})"


class Measure:
    """Seconds of a command: of the whole of it, or of the rows between a small and a large archive, which leaves the start out."""

    def __init__(self, bench: Bench, small: Archive | None, large: Archive | None) -> None:
        self.bench, self.small, self.large = bench, small, large
        self.runs: dict[str, list[dict[str, Any]]] = {}

    def take(self, name: str, command: str) -> tuple[float, float]:
        """(wall, CPU), both in seconds, or in seconds a row."""
        if self.large is None or self.small is None:
            taken = self._run(name, command, self.small)
            return taken.wall, taken.cpu
        one, two = self._run(name, command, self.small), self._run(name, command, self.large)
        rows = self.large.rows - self.small.rows
        return (two.wall - one.wall) / rows, (two.cpu - one.cpu) / rows

    def _run(self, name: str, command: str, archive: Archive | None, **how: bool) -> Taken:
        taken = self.bench.run(command, archive.path if archive else "", **how)
        if archive and taken.rows != archive.rows:
            raise SystemExit(f"{name} wrote {taken.rows:,} rows of {archive.rows:,}: {command}")
        self.runs.setdefault(name, []).append(taken.page())
        memory = f", {taken.pss_mb:,.0f} MB" if taken.pss_mb is not None else ""
        print(f"  {name}: {taken.wall:.2f} s, CPU {taken.cpu:.2f} s, {taken.rows:,} rows{memory} (load {taken.load:.1f})", flush=True)
        return taken

    def look(self, name: str, command: str, archive: Archive | None, **how: bool) -> Taken:
        return self._run(name, command, archive, **how)


def ratio(asked: argparse.Namespace, bench: Bench) -> dict[str, Any]:
    """b's seconds over a's, in pairs whose order turns: a b, b a, a b ...  More than 1: a is faster."""
    least, most = map(int, asked.pairs.split(":"))
    measure = Measure(bench, asked.small or asked.data, asked.large)
    logs: list[float] = []
    cpus: list[float] = []
    for pair in range(most):
        found = {}
        for name in ("ab", "ba")[pair % 2]:
            found[name] = measure.take(name, getattr(asked, name))
        if min(one[0] for one in found.values()) <= 0:
            raise SystemExit("the large archive took no longer than the small one: take larger ones, on a quiet machine")
        logs.append(math.log(found["b"][0] / found["a"][0]))
        cpus.append(math.log(max(found["b"][1], 1e-9) / max(found["a"][1], 1e-9)))
        middle = Middle.of(logs)
        print(f"pair {pair + 1}: {math.exp(logs[-1]):.3f}; so far {middle.exp()}; CPU {Middle.of(cpus).exp()}", flush=True)
        if pair + 1 >= least and (middle.high - middle.low) / 2 <= asked.width:
            break
    made = Middle.of(logs).exp()
    said = "" if asked.target is None else "met" if made.low >= asked.target else "missed" if made.high < asked.target else "not known"
    print(f"a is {made} times as fast as b; CPU {Middle.of(cpus).exp()}" + (f"; target {asked.target}: {said}" if said else ""))
    return {"times": made.page(), "cpu_times": Middle.of(cpus).exp().page(), "target": asked.target, "said": said, "runs": measure.runs}


def steady(asked: argparse.Namespace, bench: Bench) -> dict[str, Any]:
    """The rate from the slope between two sizes, and what is left of the small run: its start and its end."""
    measure = Measure(bench, asked.small, asked.large)
    small: list[Taken] = []
    large: list[Taken] = []
    for turn in range(asked.rounds):
        for name in (("small", "large"), ("large", "small"))[turn % 2]:
            (small if name == "small" else large).append(measure.look(name, asked.cmd, getattr(asked, name)))
    rows = asked.large.rows - asked.small.rows
    slopes = [(two.wall - one.wall) / rows for one, two in zip(small, large, strict=True)]
    slope = statistics.median(two.wall for two in large) - statistics.median(one.wall for one in small)
    rate = rows / slope
    start = Middle.of([one.wall - asked.small.rows / rate for one in small])
    cpu = statistics.median(two.cpu for two in large) - statistics.median(one.cpu for one in small)
    print(f"steady {rate:,.0f} rows/s, CPU {1000 * cpu / rows:.3f} ms a row; beside it {start} s (start and end)")
    return {"rate": rate, "cpu_a_row": cpu / rows, "start": start.page(), "slopes": slopes, "runs": measure.runs}


def growth(asked: argparse.Namespace, bench: Bench) -> dict[str, Any]:
    """CPU seconds and peak memory at growing sizes: a row more must cost what a row costs, and memory must not grow."""
    measure, found = Measure(bench, None, None), []
    for archive in asked.data:
        runs = [measure.look(f"{archive.rows}", asked.cmd, archive, memory=True) for _ in range(asked.rounds)]
        found.append((archive.rows, statistics.median(one.cpu for one in runs), statistics.median(one.pss_mb or 0.0 for one in runs)))
    steps = [(two[1] - one[1]) / (two[0] - one[0]) for one, two in zip(found, found[1:], strict=False)]
    for (rows, cpu, memory), step in zip(found, [math.nan, *steps], strict=True):
        print(f"{rows:>10,} rows: CPU {cpu:.2f} s, {1000 * cpu / rows:.3f} ms a row, {1000 * step:.3f} a row more; peak {memory:,.0f} MB")
    grows = steps[-1] / steps[0] if len(steps) > 1 else math.nan
    bound = 1.05 * found[0][2] + 50
    print(f"a row more costs {grows:.3f} times as much at the end (at most 1.05); memory {found[-1][2]:,.0f} MB (at most {bound:,.0f})")
    return {"found": found, "cpu_slope_grows": grows, "memory_bound_mb": bound, "runs": measure.runs}


def repeat(asked: argparse.Namespace, bench: Bench) -> dict[str, Any]:
    """The same again: 100 rows from nothing; with --keep a finished run (the first run, which makes it, does not count)."""
    measure, archive = Measure(bench, None, None), asked.data[0] if asked.data else None
    turns = range(asked.rounds + asked.keep)
    runs = [measure.look("run", asked.cmd, archive, keep=asked.keep and turn > 0, memory=asked.memory) for turn in turns]
    runs = runs[int(asked.keep) :]
    middle, cpu = Middle.of([one.wall for one in runs]), statistics.median(one.cpu for one in runs)
    print(f"{middle} s, CPU {cpu:.2f} s")
    return {"seconds": middle.page(), "cpu": cpu, "runs": measure.runs}


def machine() -> dict[str, Any]:
    told = Path("/proc/cpuinfo").read_text().splitlines()
    memory = int(Path("/proc/meminfo").read_text().split()[1]) // 2**20
    name = next((line.partition(":")[2].strip() for line in told if line.startswith("model name")), platform.machine())
    return {"processor": name, "cores": len(os.sched_getaffinity(0)), "memory_gib": memory, "python": platform.python_version()}


def options() -> argparse.Namespace:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--scratch", type=Path, default=Path("runs/bench/scratch"))
    shared.add_argument("--results", type=Path, default=Path("runs/bench/results.jsonl"))
    shared.add_argument("--rounds", type=int, default=5)
    shared.add_argument("--note", default="", help="kept with the result")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind in (ratio, steady, growth, repeat):
        page = kinds.add_parser(kind.__name__, parents=[shared], description=kind.__doc__)
        page.set_defaults(measure=kind)
        for name in ("--a", "--b") if kind is ratio else ("--cmd",):
            page.add_argument(name, required=True)
        if kind is ratio:
            page.add_argument("--pairs", default="5:25")
            page.add_argument("--width", type=float, default=0.04)
            page.add_argument("--target", type=float)
        if kind in (ratio, steady):
            for name in ("--small", "--large"):
                page.add_argument(name, type=Archive.of, required=kind is steady)
        if kind is not steady:
            page.add_argument("--data", type=Archive.of, nargs=None if kind is ratio else "*", required=kind is growth)
        if kind is repeat:
            page.add_argument("--keep", action="store_true", help="the output of a run is there in the next")
            page.add_argument("--memory", action="store_true")
    return parser.parse_args()


def main() -> None:
    asked = options()
    asked.results.parent.mkdir(parents=True, exist_ok=True)
    made = asked.measure(asked, Bench(asked.scratch.absolute(), asked.results.with_suffix(".log")))
    told = {name: str(value) for name, value in vars(asked).items() if name not in ("measure", "kind", "scratch", "results")}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with asked.results.open("a") as file:
        file.write(json.dumps({"kind": asked.kind, "date": now, "machine": machine(), "asked": told, **made}) + "\n")


if __name__ == "__main__":
    main()
