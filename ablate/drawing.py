"""How figures of ablations look, and how they are saved the same each time."""

import io
import itertools
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colours, which the colour-blind tell apart; the baseline is
# black. Past them arms differ by their dashes.
BASELINE = "#000000"
COLOURS = (
  *("#0072B2", "#D55E00", "#009E73", "#CC79A7"),
  *("#E69F00", "#56B4E9", "#8C6D1F"),
)
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)))
GREY = "#6b7280"
DPI = 150  # of a PNG
_STYLE = {
  "font.size": 8.5,
  "axes.titlesize": 9,
  "axes.labelsize": 8.5,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.linewidth": 0.7,
  "xtick.major.width": 0.7,
  "ytick.major.width": 0.7,
  "legend.frameon": False,
  "pdf.fonttype": 42,  # letters stay letters
  "figure.constrained_layout.use": True,
}


def style() -> Any:
  # From the defaults, so that a user's own settings change no byte.
  settings: Any = {**matplotlib.rcParamsDefault, **_STYLE}
  return matplotlib.rc_context(settings)


def look(number: int) -> dict[str, Any]:
  """Of the number-th arm; the baseline's is 0."""
  if number == 0:
    return {"color": BASELINE, "linestyle": "-"}
  i = number - 1
  return {
    "color": COLOURS[i % len(COLOURS)],
    "linestyle": DASHES[i // len(COLOURS) % len(DASHES)],
  }


def short(name: str, most: int = 30) -> str:
  """A long name without its middle, the ends being what tells it apart."""
  if len(name) <= most:
    return name
  head = (most - 1) // 2
  return name[:head] + "…" + name[len(name) - (most - 1 - head) :]


def spread(wanted: Sequence[float], gap: float) -> list[float]:
  """Places at least `gap` apart, as near as can be to those wanted.

  Neighbours that are too near become one block around their mean.
  """
  order = np.argsort(wanted, kind="stable")
  blocks: list[tuple[list[int], float]] = []  # (members, middle)
  for i in order:
    members, middle = [int(i)], float(wanted[i])
    while blocks:
      before, centre = blocks[-1]
      reach = gap * (len(before) + len(members)) / 2
      if middle - centre >= reach:
        break
      blocks.pop()
      members = before + members
      middle = _middle([wanted[j] for j in members], gap)
    blocks.append((members, middle))
  places = [0.0] * len(wanted)
  for members, middle in blocks:
    for k, i in enumerate(members):
      places[i] = middle + gap * (k - (len(members) - 1) / 2)
  return places


def _middle(values: Sequence[float], gap: float) -> float:
  n = len(values)
  offsets = [gap * (k - (n - 1) / 2) for k in range(n)]
  return sum(v - o for v, o in zip(values, offsets, strict=True)) / n


def label_ends(
  axes: Axes, ends: Sequence[tuple[float, float, str, str]], size: float = 8
) -> None:
  """Names curves at their right ends, none over another.

  Args:
    ends: (x, y, name, colour) of each.
  """
  assert isinstance(axes.figure, Figure)
  # The axes' height in points: what titles leave of the figure's.
  height = axes.figure.get_size_inches()[1] * 72 - 50
  gap = 1.25 * size / height
  # By way of the scale, which may be logarithmic.
  to_axes = axes.transData + axes.transAxes.inverted()
  wanted = [float(to_axes.transform((x, y))[1]) for x, y, _, _ in ends]
  places = spread([min(max(y, 0.0), 1.0) for y in wanted], gap)
  # As many as there is room for stay beside the axes.
  if places and max(places) - min(places) <= 1:
    shift = max(0.0, -min(places)) - max(0.0, max(places) - 1)
    places = [place + shift for place in places]
  for (x, y, name, colour), place in zip(ends, places, strict=True):
    axes.annotate(
      short(name),
      xy=(x, y),
      xytext=(1.09, place),
      textcoords="axes fraction",
      color=colour,
      fontsize=size,
      va="center",
      annotation_clip=False,
      arrowprops={
        "arrowstyle": "-",
        "color": colour,
        "linewidth": 0.5,
        "relpos": (0, 0.5),
        "shrinkA": 1,
        "shrinkB": 1,
      },
    )


Box = tuple[float, float, float, float]  # left, bottom, right, top; points


def label_points(
  axes: Axes,
  points: Sequence[tuple[float, float, float, str, str]],
  stairs: Sequence[tuple[float, float]] = (),
  size: float = 8,
) -> None:
  """Names points beside them, where nothing else is as far as that goes.

  Args:
    points: (x, y, half of the error bar, name, colour) of each.
    stairs: corners of a line that goes right, then up or down.
  """
  assert isinstance(axes.figure, Figure)
  axes.figure.draw_without_rendering()  # the layout, on which places depend
  scale = 72 / axes.figure.dpi

  def at(x: float, y: float) -> tuple[float, float]:
    left, bottom = axes.transData.transform((x, y)) * scale
    return float(left), float(bottom)

  frame = axes.get_window_extent()
  inside = tuple(v * scale for v in (*frame.min, *frame.max))
  taken: list[Box] = []
  for x, y, half, _, _ in points:
    (px, low), (_, high) = at(x, y - half), at(x, y + half)
    py = at(x, y)[1]
    taken += [(px - 4, py - 4, px + 4, py + 4), (px - 1, low, px + 1, high)]
  for start, end in itertools.pairwise(stairs):
    (x0, y0), (x1, y1) = at(*start), at(*end)
    taken += [
      (x0, y0 - 1, x1, y0 + 1),
      (x1 - 1, min(y0, y1), x1 + 1, max(y0, y1)),
    ]
  for x, y, _, name, colour in points:
    px, py = at(x, y)
    # Near enough, without asking for the size of each letter.
    width, height = 0.6 * size * len(short(name)), 1.1 * size

    def cost(place: tuple[int, int], px=px, py=py, w=width, h=height) -> float:
      box = _box(px, py, w, h, place)
      outside = w * h - _overlap(box, inside)
      return 2 * outside + sum(_overlap(box, other) for other in taken)

    best = min(_SIDES, key=cost)
    taken.append(_box(px, py, width, height, best))
    axes.annotate(
      short(name),
      xy=(x, y),
      xytext=(6 * best[0], 6 * best[1] if best[0] else 9 * best[1]),
      textcoords="offset points",
      ha=("right", "center", "left")[best[0] + 1],
      va=("top", "center", "bottom")[best[1] + 1],
      color=colour,
      fontsize=size,
    )


_SIDES = ((1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1), (0, 1), (0, -1))


def _box(
  x: float, y: float, width: float, height: float, side: tuple[int, int]
) -> Box:
  left = x + 6 * side[0] - width * (1 - side[0]) / 2
  bottom = y + 6 * side[1] - height * (1 - side[1]) / 2
  return left, bottom, left + width, bottom + height


def _overlap(a: Box, b: Sequence[float]) -> float:
  wide = min(a[2], b[2]) - max(a[0], b[0])
  high = min(a[3], b[3]) - max(a[1], b[1])
  return max(wide, 0.0) * max(high, 0.0)


def save(figure: Figure) -> dict[str, bytes]:
  """As pdf and as png, without the date and the maker's version."""
  figure.draw_without_rendering()
  figure.set_layout_engine("none")  # it is laid out, for both
  empty: dict[str, Any] = dict.fromkeys(("CreationDate", "Creator", "Producer"))
  found = {}
  for kind, metadata in (("pdf", empty), ("png", {"Software": None})):
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, dpi=DPI, metadata=metadata)
    found[kind] = stream.getvalue()
  return found
