"""One invented exam in, the picture of a chest out: body, lungs, ribs, spine, heart, vessels, perhaps a lesion; then a scanner.

Brightness is 0 (air, black) to 1 (white), as a film shows it.  Lengths are shares of the side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from meddx.synth.population import Exam, Lesion, Scanner, Site

Picture = NDArray[np.float32]
CONTRAST = 0.50  # brightness that a lesion of strength 1 adds
GLYPHS = {"A": "010101111101101", "L": "100100100100111", "P": "110101110100100", "R": "110101110101101"}  # 3 wide, 5 high


@dataclass(frozen=True)
class Anatomy:
    """What two films of a patient share."""

    centre: float
    width: float
    top: float
    height: float
    ribs: float
    slope: float
    phase: float
    heart: float

    def lung(self, side: int) -> tuple[float, float, float, float]:
        """(x, y, half width, half height) of the lung at the left (0) or right (1) of the picture."""
        return self.centre + (self.width + 0.045) * (2 * side - 1), self.top + self.height, self.width, self.height


def anatomy(seed: int, patient: int) -> Anatomy:
    """The patient's chest; heights and widths differ by some 10 %."""
    rng = np.random.default_rng([seed, 2, patient])
    return Anatomy(
        centre=rng.uniform(0.48, 0.52),
        width=rng.uniform(0.14, 0.17),
        top=rng.uniform(0.13, 0.19),
        height=rng.uniform(0.27, 0.32),
        ribs=rng.uniform(7, 9),
        slope=rng.uniform(0.25, 0.5),
        phase=rng.random(),
        heart=rng.uniform(0.10, 0.15),
    )


def picture(exam: Exam, seed: int, size: int) -> tuple[Picture, NDArray[np.bool_]]:
    """The film [size, size] float32 in 0..1, and the mask of the lesion (all false where there is none)."""
    rng = np.random.default_rng([seed, 3, exam.patient, exam.number])
    body = anatomy(seed, exam.patient)
    move = rng.uniform(-0.02, 0.02, 2)  # nobody stands twice in the same place
    steps = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = np.meshgrid(steps - move[0], steps - move[1])
    lungs = _lungs(body, x, y)
    film = _chest(body, lungs, x, y) + lungs * _vessels(rng, body, x, y)
    mask = np.zeros((size, size), dtype=np.bool_)
    if exam.lesion is not None:
        shadow, mask = _lesion(body, exam.lesion, x, y)
        film += CONTRAST * exam.strength * shadow
    film = _scan(film, exam.scanner, rng)
    _border(film, exam.site)
    if rng.random() < exam.site.text_share:
        _burn_in(film, exam.site.text, rng)
    return np.clip(film, 0, 1).astype(np.float32), mask


def _soft(distance: Picture, edge: float) -> Picture:
    """1 inside (distance < 1), 0 outside, with an edge that is about `edge` wide."""
    return np.asarray(1 / (1 + np.exp(np.clip((distance - 1) / edge, -30, 30))), dtype=np.float32)


def _ellipse(x: Picture, y: Picture, at: tuple[float, float, float, float]) -> Picture:
    return np.asarray(np.hypot((x - at[0]) / at[2], (y - at[1]) / at[3]), dtype=np.float32)


def _lungs(body: Anatomy, x: Picture, y: Picture) -> Picture:
    return np.asarray(np.maximum(_soft(_ellipse(x, y, body.lung(0)), 0.07), _soft(_ellipse(x, y, body.lung(1)), 0.07)), dtype=np.float32)


def _chest(body: Anatomy, lungs: Picture, x: Picture, y: Picture) -> Picture:
    trunk = _soft(np.hypot((x - body.centre) / 0.47, np.maximum(0.35 - y, 0) / 0.36).astype(np.float32), 0.05)
    film = trunk * (0.58 - 0.36 * lungs)
    rows = body.ribs * (y + body.slope * (np.abs(x - body.centre) - 0.2) ** 2 * 4) + body.phase
    ribs = 1 / (1 + np.exp(-6 * (np.cos(2 * np.pi * rows) - 0.35)))
    film += 0.07 * ribs * trunk * (np.abs(x - body.centre) < 0.4)
    film += 0.16 * np.exp(-(((x - body.centre) / 0.035) ** 2)) * trunk
    heart = _soft(_ellipse(x, y, (body.centre + 0.06, body.top + 1.45 * body.height, body.heart, 0.14)), 0.06)
    return np.asarray(film + 0.26 * heart * lungs, dtype=np.float32)


def _vessels(rng: np.random.Generator, body: Anatomy, x: Picture, y: Picture) -> Picture:
    """Smooth cloudy texture in the lungs, and a few small bright spots: vessels seen end on, in every chest alike."""
    size = len(x)
    cloud = gaussian_filter(rng.normal(size=(size, size)), 0.03 * size).astype(np.float32)
    film = 0.02 * cloud / (cloud.std() + 1e-6)
    film += _haze(rng, x, y)
    for _ in range(int(rng.integers(2, 7))):
        side, angle, far = int(rng.integers(2)), 2 * np.pi * rng.random(), 0.8 * np.sqrt(rng.random())
        lung = body.lung(side)
        at = (lung[0] + far * np.cos(angle) * lung[2], lung[1] + far * np.sin(angle) * lung[3])
        across, down = np.exp(-(((x[0] - at[0]) / 0.016) ** 2)), np.exp(-(((y[:, 0] - at[1]) / 0.016) ** 2))
        film += np.float32(rng.uniform(0.1, 0.25)) * np.outer(down, across)
    return np.asarray(film, dtype=np.float32)


def _haze(rng: np.random.Generator, x: Picture, y: Picture) -> Picture:
    """How well the lungs are filled with air, a smooth wave over the picture: what a sum over the lungs sees besides a lesion."""
    a, b, c, d, e = rng.normal(scale=(0.05, 0.05, 0.05, 0.03, 0.03)).astype(np.float32)
    u, v = np.pi * x, np.pi * y
    return np.asarray(a + b * np.cos(u) + c * np.cos(v) + d * np.cos(2 * u) + e * np.cos(2 * v), dtype=np.float32)


def _lesion(body: Anatomy, lesion: Lesion, x: Picture, y: Picture) -> tuple[Picture, NDArray[np.bool_]]:
    """Brightness exp(-(d / r)^4), and its mask d <= r: at most pi 0.09^2 = 2.6 % of the picture."""
    lung = body.lung(lesion.lung)
    far = np.hypot(x - lung[0] - lesion.x * lung[2], y - lung[1] - lesion.y * lung[3]) / lesion.radius
    return np.exp(-(far**4)).astype(np.float32), far <= 1


def _scan(film: Picture, scanner: Scanner, rng: np.random.Generator) -> Picture:
    size = len(film)
    seen = gaussian_filter(film, scanner.blur * size) * scanner.gain * rng.uniform(0.92, 1.08) + scanner.offset
    return np.asarray(seen + rng.normal(scale=scanner.noise, size=film.shape), dtype=np.float32)


def _border(film: Picture, site: Site) -> None:
    """The collimator's black frame; `film` is this exam's own array."""
    edge = round(site.border * len(film))
    if edge:
        film[:edge], film[-edge:], film[:, :edge], film[:, -edge:] = 0, 0, 0, 0


def _burn_in(film: Picture, text: str, rng: np.random.Generator) -> None:
    """White letters in an upper corner, as markers of the side are burned in."""
    scale = max(1, len(film) // 64)
    left = rng.random() < 0.5
    column = round(0.07 * len(film)) if left else round(0.93 * len(film)) - 4 * scale * len(text)
    row = round(0.07 * len(film))
    for index, letter in enumerate(text):
        bits = np.array([int(bit) for bit in GLYPHS[letter]], dtype=np.float32).reshape(5, 3)
        block = np.kron(bits, np.ones((scale, scale), dtype=np.float32))
        at = column + 4 * scale * index
        window = film[row : row + block.shape[0], at : at + block.shape[1]]
        np.maximum(window, block[: window.shape[0], : window.shape[1]], out=window)
