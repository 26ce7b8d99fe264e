"""The figures as bars: plain SVG, no library."""

from collections.abc import Iterator, Mapping, Sequence
from xml.sax.saxutils import escape

from benchmarks.records import WorkloadResult
from benchmarks.report import OURS, show, summarize
from benchmarks.workloads.base import Panel, Workload

COLUMNS = 2
PANEL_WIDTH = 460
LABEL_WIDTH = 130
VALUE_WIDTH = 80
BAR_HEIGHT = 16
BAR_STEP = 22
PANEL_HEAD = 34
PANEL_GAP = 22
COLOURS = {OURS: "#1a7f5a"}
OTHER_COLOUR = "#9aa5b1"


def chart(workloads: Sequence[Workload], results: Mapping[str, WorkloadResult], titles: Mapping[str, str]) -> str:
    """One panel for each of the workloads' panels that has figures; shorter bars are better in all of them."""
    panels = [
        (panel, bars)
        for workload in workloads
        if workload.name in results
        for panel in workload.panels
        if (bars := _bars(workload, panel, results[workload.name]))
    ]
    body: list[str] = []
    top = 40.0
    for start in range(0, len(panels), COLUMNS):
        row = panels[start : start + COLUMNS]
        for column, (panel, bars) in enumerate(row):
            body += _panel(panel, bars, titles, left=20 + column * (PANEL_WIDTH + 20), top=top)
        top += PANEL_HEAD + BAR_STEP * max(len(bars) for _, bars in row) + PANEL_GAP
    width = 20 + COLUMNS * (PANEL_WIDTH + 20)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top:.0f}" viewBox="0 0 {width} {top:.0f}" '
        'font-family="system-ui, sans-serif" font-size="13" fill="#1f2933">'
    )
    ground = f'<rect width="{width}" height="{top:.0f}" fill="#ffffff"/>'
    caption = '<text x="20" y="24" font-size="12" fill="#52606d">Shorter is better. Medians.</text>'
    return "\n".join((head, ground, caption, *body, "</svg>")) + "\n"


def _bars(workload: Workload, panel: Panel, result: WorkloadResult) -> list[tuple[str, float]]:
    step = next(step for step in workload.steps if step.name == panel.step)
    found = ((tool, summarize(result, step.name, tool, panel.figure)) for tool in step.tools)
    return [(tool, summary.median) for tool, summary in found if summary]


def _panel(
    panel: Panel, bars: Sequence[tuple[str, float]], titles: Mapping[str, str], *, left: float, top: float
) -> Iterator[str]:
    longest = max(value for _, value in bars) or 1.0
    room = PANEL_WIDTH - LABEL_WIDTH - VALUE_WIDTH
    yield f'<text x="{left}" y="{top + 16}" font-weight="600">{escape(panel.title)}</text>'
    for number, (tool, value) in enumerate(bars):
        y = top + PANEL_HEAD - 8 + number * BAR_STEP
        length = max(1.0, room * value / longest)
        colour = COLOURS.get(tool, OTHER_COLOUR)
        start = left + LABEL_WIDTH
        label, figure = escape(titles.get(tool, tool)), show(value, panel.figure)
        yield f'<text x="{start - 8}" y="{y + 12}" text-anchor="end">{label}</text>'
        yield f'<rect x="{start}" y="{y}" width="{length:.1f}" height="{BAR_HEIGHT}" rx="2" fill="{colour}"/>'
        yield f'<text x="{start + length + 6:.1f}" y="{y + 12}">{figure}</text>'
