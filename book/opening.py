"""The picture that the README and the book open with: python -m book.opening writes docs/rotation.svg.

Words of a sentence side by side, below each the pairs of a vector of 8 channels as hands of a clock. Written
out by hand rather than by matplotlib: the file is kept in the repository, and stays the same for any version of it.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rope_ref import rotation, variants

FILE = Path(__file__).parents[1] / "docs" / "rotation.svg"
WORDS = "the dog saw the cat but the cat saw the dog".split()
ROPE = variants.default(8, theta=100.0)
COLOURS = ("#2a7fb8", "#d1632a", "#5b9a3c", "#8e5bb0")  # these and the grey of the text suit white and black alike
WIDTH, HEIGHT = 860, 474
LEFT, STEP, TOP, ROW, RADIUS = 212, 59, 88, 64, 23  # of the clocks
STYLE = """
text { font: 14px system-ui, sans-serif; fill: #768089; }
.word { font-size: 16px; font-weight: 600; text-anchor: middle; }
.small { font-size: 12px; }
.middle { text-anchor: middle; }
.face { fill: none; stroke: #768089; stroke-opacity: .35; }
.wave { fill: none; stroke-opacity: .4; stroke-width: 1.5; }
.hand { stroke-width: 3; stroke-linecap: round; }
.wedge { fill-opacity: .25; }
"""


def picture() -> str:
    """The picture, with no background."""
    said = f"The words of a sentence, and below each the pairs of its vector, turned: {', '.join(map(turn, range(4)))}"
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="t">',
        f'<title id="t">{said}.</title>', f"<style>{STYLE}</style>", *words(), *clocks(), *distance(), "</svg>\n",
    ])  # fmt: skip


def words() -> Iterator[str]:
    """The sentence, each word above its position."""
    yield text(8, 48, "position", "small")
    for p, word in enumerate(WORDS):
        yield text(LEFT + p * STEP, 24, word, "word", COLOURS[0] if word in ("dog", "cat") else "")
        yield text(LEFT + p * STEP, 48, p, "small middle")


def clocks() -> Iterator[str]:
    """A row for each pair: its hand at every position, and the height of its tip between them."""
    for pair, colour in enumerate(COLOURS):
        y = TOP + pair * ROW
        yield text(8, y - 3, f"channels {pair} and {pair + ROPE.pairs}")
        yield text(8, y + 15, turn(pair), "small")
        p = np.arange(-0.5, len(WORDS) - 0.4, 0.125)
        heights = y - RADIUS * np.sin(rotation.angles(ROPE, p)[:, pair])
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(LEFT + p * STEP, heights, strict=True))
        yield f'<polyline class="wave" stroke="{colour}" points="{points}"/>'
        for word, phi in enumerate(rotation.angles(ROPE, np.arange(len(WORDS)))[:, pair]):
            yield from clock(LEFT + word * STEP, y, RADIUS, {float(phi): colour})


def distance() -> Iterator[str]:
    """One pair at both distances of three words: the hands differ, the angle between them does not."""
    pair, y, radius = 1, HEIGHT - 88, 44
    for x, near, far in ((120, 1, 4), (340, 7, 10)):
        first, second = (float(rotation.angles(ROPE, p)[pair]) for p in (near, far))
        (ax, ay), (bx, by) = (tip(x, y, radius, phi) for phi in (first, second))
        yield (f'<path class="wedge" fill="{COLOURS[pair]}" d="M{x},{y} L{ax:.1f},{ay:.1f} '
               f'A{radius},{radius} 0 0 0 {bx:.1f},{by:.1f} Z"/>')  # fmt: skip
        yield from clock(x, y, radius, dict.fromkeys((first, second), COLOURS[pair]))
        yield text(x, y + 70, f"{WORDS[near]} at {near}, {WORDS[far]} at {far}", "middle")
    yield text(230, y + 8, "=", "word")
    for line, said in enumerate((
        "Every position turns a word to other angles, so",
        "that the model can tell the two dogs apart.",
        "Three words apart is the same angle everywhere,",
        "so that their distance counts, not their place.",
    )):  # fmt: skip
        yield text(474, y - 32 + 22 * line + 10 * (line > 1), said)


def clock(x: float, y: float, radius: float, hands: dict[float, str]) -> Iterator[str]:
    yield f'<circle class="face" cx="{x}" cy="{y}" r="{radius}"/>'
    for phi, colour in hands.items():
        a, b = tip(x, y, radius, phi)
        yield f'<line class="hand" stroke="{colour}" x1="{x}" y1="{y}" x2="{a:.1f}" y2="{b:.1f}"/>'


def tip(x: float, y: float, radius: float, phi: float) -> tuple[float, float]:
    """Where a hand ends; angles grow against the clock, from the right."""
    return x + radius * np.cos(phi), y - radius * np.sin(phi)


def turn(pair: int) -> str:
    return f"once around in {2 * np.pi / ROPE.omega[pair]:.0f} words"


def text(x: float, y: float, said: object, kind: str = "", colour: str = "") -> str:
    fill = f' style="fill: {colour}"' if colour else ""
    return f'<text x="{x}" y="{y}"{f" class={chr(34)}{kind}{chr(34)}" if kind else ""}{fill}>{said}</text>'


if __name__ == "__main__":
    FILE.write_text(picture(), encoding="utf-8")
