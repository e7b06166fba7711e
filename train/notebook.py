"""Progress in a notebook: HTML that is updated in place, without widgets.

display = Display("sweep", 0, 24, "")
display.update(1, "adamw, seed 0: 1.93 bits per byte")
display.close()
"""

import html
import math
import sys
import time
from collections.abc import Sequence

Point = tuple[float | int, float | int]  # x and y, as of step and loss

# Seconds between updates: each one is a message to the browser.
_EVERY = 0.2
# Points of a curve that are kept; of more, every other one.
_POINTS = 400

_BAR = """\
<div style="font-family:monospace;font-size:13px;line-height:1.6">
  <div>{title} <b>{done}/{total}</b> ({share:.0%})</div>
  <div role="progressbar" aria-valuemin="0" aria-valuemax="{total}"
    aria-valuenow="{done}" style="width:100%;max-width:480px;height:8px;
    border-radius:4px;background:rgba(128,128,128,0.3)">
    <div style="width:{percent:.1f}%;height:8px;border-radius:4px;
      background:#1f77b4"></div>
  </div>
  <div>{text}</div>
  {curve}
</div>"""


def progress_html(
  title: str,
  done: int,
  total: int,
  text: str,
  points: Sequence[Point] = (),
) -> str:
  """Returns a bar, a line of text and, with points, a small curve.

  Args:
    points: of the curve; what is not finite is left out.
  """
  share = min(max(done / total, 0.0), 1.0) if total else 1.0
  return _BAR.format(
    title=html.escape(title),
    done=done,
    total=total,
    share=share,
    percent=100 * share,
    text=html.escape(text),
    curve=sparkline(points),
  )


def sparkline(
  points: Sequence[Point], width: int = 480, height: int = 60
) -> str:
  """Returns an inline SVG of a curve with its first, last and least value."""
  points = [p for p in points if all(map(math.isfinite, p))]
  if len(points) < 2:
    return ""
  xs, ys = zip(*points, strict=True)
  left, low = min(xs), min(ys)
  wide, high = (max(xs) - left) or 1, (max(ys) - low) or 1
  margin = 2  # half of the line, and some
  path = " ".join(
    f"{margin + (x - left) / wide * (width - 2 * margin):.1f},"
    f"{margin + (low + high - y) / high * (height - 2 * margin):.1f}"
    for x, y in points
  )
  told = f"from {ys[0]:.4g} to {ys[-1]:.4g}, least {low:.4g}"
  return (
    f'<svg width="{width}" height="{height}" role="img" aria-label="{told}">'
    f"<title>{told}</title>"
    '<polyline fill="none" stroke="#1f77b4" stroke-width="1.5"'
    f' points="{path}"/></svg>'
  )


def in_notebook() -> bool:
  """Whether a Jupyter kernel, Colab's too, runs this process."""
  # Not imported, so that a terminal does not pay for it.
  if (ipython := sys.modules.get("IPython")) is None:
    return False
  kinds = type(ipython.get_ipython()).__mro__
  return any(kind.__name__ == "ZMQInteractiveShell" for kind in kinds)


class Display:
  """A bar in the output of a notebook's cell."""

  def __init__(self, title: str, done: int, total: int, text: str):
    from IPython.display import HTML, display  # pyright: ignore

    self._html = HTML
    self._title, self._total = title, total
    self._done, self._text = done, text
    self._points: list[Point] = []
    self._next = 0.0
    self._handle = display(HTML(self._render()), display_id=True)

  def _render(self) -> str:
    return progress_html(
      self._title, self._done, self._total, self._text, self._points
    )

  def update(self, done: int, text: str, value: float | None = None) -> None:
    """Shows what is done, and a value as the next point of the curve."""
    self._done, self._text = done, text
    if value is not None:
      self._points.append((done, value))
      if len(self._points) > _POINTS:
        del self._points[1:-1:2]
    if time.monotonic() >= self._next:
      self._next = time.monotonic() + _EVERY
      self._show()

  def _show(self) -> None:
    # IPython gives no handle where there is no front end.
    if self._handle is not None:
      self._handle.update(self._html(self._render()))

  def close(self) -> None:
    """Shows the last update, even if it came soon after the one before."""
    self._show()
