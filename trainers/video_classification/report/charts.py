"""Charts as SVG, whose lines and text have the colour of the page they are put in."""

import html
import io
import re
from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.figure import Figure

_INK = "#010203"  # becomes the colour of the text around
COLORS = ("#3b82f6", "#f59e0b", "#10b981", "#ef4444")  # seen on light and on dark


def lines(
    title: str, series: Mapping[str, Sequence[tuple[float, float]]], percent=False
) -> str:
    """A chart of values over steps.

    Args:
        title: For those who do not see it, and above it.
        series: (step, value) of each line, by its name.
        percent: Values from 0 to 1, shown as 0 to 100 %.
    """
    with _style():
        figure = Figure(figsize=(5.2, 2.9), layout="constrained")
        axes = figure.subplots()
        for color, (name, points) in zip(COLORS, series.items(), strict=False):
            steps, values = zip(*points, strict=True)
            values = [100 * value for value in values] if percent else values
            mark = "." if len(points) < 60 else ""
            axes.plot(
                steps, values, marker=mark, color=color, label=name, linewidth=1.6
            )
        axes.set(xlabel="step", title=title, ylim=(0, 103) if percent else None)
        axes.set_ylabel("%" if percent else "")
        axes.grid(alpha=0.25, color=_INK, linewidth=0.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        return _svg(figure, title)


def shares(title: str, parts: Mapping[str, float]) -> str:
    """One bar of parts, with their names and percentages below."""
    total = sum(parts.values()) or 1.0
    with _style():
        figure = Figure(figsize=(8, 1.1), layout="constrained")
        axes, left = figure.subplots(), 0.0
        for color, (name, value) in zip(COLORS, parts.items(), strict=False):
            label = f"{name} {value / total:.0%}"
            axes.barh(0, value, left=left, color=color, label=label)
            left += value
        axes.set(xlim=(0, total))
        axes.axis("off")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=4, frameon=False)
        return _svg(figure, title)


def _style():
    inks = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color")
    return matplotlib.rc_context(
        {
            **dict.fromkeys((*inks, "ytick.color"), _INK),
            "svg.fonttype": "none",  # text that can be read and selected
            "font.family": "sans-serif",
            "font.size": 9,
            "axes.titlesize": 10,
        }
    )


def _svg(figure: Figure, title: str) -> str:
    file = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": title}):  # ids differ between charts
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', text))  # others are the same
    text = re.sub(r' id="([^"]*)"', lambda x: x[0] * (x[1] in used), text)
    return text.replace(
        "<svg ", f'<svg role="img" aria-label="{html.escape(title)}" ', 1
    )
