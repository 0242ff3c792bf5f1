"""The panel of an overlay video with several people: one row per person, and the colours of the outputs."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from deiii.data.tools.counts import counted
from deiii.data.tools.text.printable import printable_name
from deiii.model.prediction.overlay.panel import (
    BACK,
    COLOURS,
    EDGE,
    INK,
    SOFT,
    TRACK,
    draw_course,
    font,
    headline,
)
from deiii.model.prediction.result import Prediction

ROW, TILE = 60, 48  # px: height of a row, side of a thumbnail
WORDS = 170  # px, for number and prediction
MOST_SHOWN = 6  # rows; of more people, those who are visible longest
LINE, FIELD = 16, 10  # px: height of a line below the rows, side of a field of colour


class PeoplePanel:
    """One row per person: thumbnail, number, prediction at the current time, and its course.

    Args:
        people: their predictions, each with its `Person`.
        ranges: ranges of the attributes.
        width: width of the panel in px.

    Attributes:
        height: height of the panel in px.

    Raises:
        ValueError: a prediction has no person.
    """

    def __init__(self, people: Sequence[Prediction], ranges: Sequence[tuple[float, float]], width: int):
        longest = sorted(people, key=lambda p: -(p.person.seconds if p.person else 0.0))[:MOST_SHOWN]
        self.people = [p for p in people if any(p is one for one in longest)]
        self.more = len(people) - len(self.people)
        self.width = width
        self.left, self.right = EDGE + TILE + WORDS, width - EDGE
        # `draw_course` draws the classes, or the attributes where there are no classes.
        usable = next((p for p in self.people if p.usable), self.people[0])
        names = [printable_name(name) for name in usable.probabilities or usable.attributes]
        self.legend = legend_places(names, width - 2 * EDGE)
        lines = 1 + max((line + 1 for _, _, line in self.legend), default=0)
        self.height = EDGE + ROW * len(self.people) + LINE * lines
        self._still = self._draw_still(ranges)
        self._words: dict[int, tuple[str, np.ndarray]] = {}

    def draw(self, time: float, flow: np.ndarray | None = None) -> np.ndarray:
        """Return the panel at a time in s, uint8 [height,width,3]; ``flow`` is not shown."""
        canvas = self._still.copy()
        for i, one in enumerate(self.people):
            top = EDGE + i * ROW
            x = self.left + round((self.right - self.left - 1) * min(1.0, time / max(one.seconds, 1e-9)))
            canvas[top : top + TILE, x] = INK
            place = canvas[top + TILE // 2 : top + TILE, EDGE + TILE + 8 : self.left - 8]
            place[:] = self._line(i, headline(one, time), place.shape[1], place.shape[0])
        return canvas

    def _line(self, i: int, words: str, width: int, height: int) -> np.ndarray:
        """Return the prediction of a person as an image; it is drawn again only where it changes."""
        if i not in self._words or self._words[i][0] != words:
            image = Image.new("RGB", (width, height), BACK)
            ImageDraw.Draw(image).text((0, height / 2), words or "–", SOFT, font(13), anchor="lm")
            self._words[i] = words, np.asarray(image)
        return self._words[i][1]

    def _draw_still(self, ranges: Sequence[tuple[float, float]]) -> np.ndarray:
        image = Image.new("RGB", (self.width, self.height), BACK)
        draw = ImageDraw.Draw(image)
        for i, one in enumerate(self.people):
            top = EDGE + i * ROW
            if one.person is None:
                raise ValueError(f"prediction {i} has no person")
            draw.text((EDGE + TILE + 8, top + 2), f"person {one.person.number}", INK, font(14))
        first = self.people[0]
        under = f"{first.seconds:.1f} s; window {first.timeline.window_s:.1f} s" if first.timeline else ""
        more = counted(self.more, "more person is", "more people are")
        more = f"; {more} not shown here" if self.more else ""
        bottom = EDGE + ROW * len(self.people) - 4
        draw.text((self.left, bottom), under + more, SOFT, font(12))
        for k, (name, x, line) in enumerate(self.legend):
            left, top = EDGE + x, bottom + LINE * (line + 1)
            field = (left, top + 2, left + FIELD - 1, top + 1 + FIELD)
            draw.rectangle(field, fill=COLOURS[k % len(COLOURS)])
            draw.text((left + FIELD + 4, top), name, SOFT, font(12))
        canvas = np.asarray(image).copy()
        for i, one in enumerate(self.people):
            top = EDGE + i * ROW
            tile = canvas[top : top + TILE, EDGE : EDGE + TILE]
            tile[:] = TRACK
            if one.person is not None and one.person.thumbnail is not None:
                tile[:] = cv2.resize(one.person.thumbnail, (TILE, TILE), interpolation=cv2.INTER_AREA)
            course = draw_course(one, ranges, self.right - self.left, TILE)
            canvas[top : top + TILE, self.left : self.right] = course
        return canvas


def legend_places(names: Sequence[str], width: int) -> list[tuple[str, int, int]]:
    """Return the places of the names in the legend of the colours.

    Args:
        names: classes or attributes.
        width: width of a line in px.

    Returns:
        for each name, the name, its distance from the left edge in px, and the number of its line.
    """
    found: list[tuple[str, int, int]] = []
    x = line = 0
    for name in names:
        needed = FIELD + 4 + round(font(12).getlength(name))
        if x and x + needed > width:
            x, line = 0, line + 1
        found.append((name, x, line))
        x += needed + 14
    return found
