"""Parts of the page as text, and the colors of its style sheet."""

from __future__ import annotations

import re
from typing import Any

from mstkit.report.chart_figures import figure as figure_of
from mstkit.report.charts import Chart
from mstkit.report.page_templates import asset, environment


def piece(template: str, macro: str, *arguments: Any, **options: Any) -> str:
    """What a macro of a template writes."""
    return str(getattr(environment().get_template(template).module, macro)(*arguments, **options))


def figure(chart: Chart, place: str) -> str:
    """A chart with all that belongs to it."""
    return piece('chart.html.j2', 'shown', figure_of(chart, place))


def svg(chart: Chart, place: str) -> str:
    """The drawing of a chart."""
    return piece('chart.html.j2', 'svg', figure_of(chart, place))


def colors() -> tuple[dict[str, str], dict[str, str]]:
    """The colors that the style sheet names, in light and in dark mode."""
    light, dark, *others = re.findall(r':root \{(.*?)\}', asset('style.css'), flags=re.DOTALL)
    assert not others
    named = [dict(re.findall(r'--(\w+): (#[0-9A-F]{6});', block)) for block in (light, dark)]
    assert named[0].keys() == named[1].keys()
    return named[0], named[1]


def dashes() -> list[str]:
    """The dashes of the curves, in the order of their styles."""
    return re.findall(r'^\.d\d \.line \{ stroke-dasharray: (.+); \}$', asset('style.css'), flags=re.MULTILINE)
