"""The contrast of text and background in the report's page, light and dark."""

import re

import pytest

from rdsiam.report.page import _ASSETS

CSS = (_ASSETS / "report.css").read_text(encoding="utf-8")


def colours(scheme):
    light = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6});", CSS.split("@media")[0]))
    dark = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6});", CSS.split("@media")[1]))
    return light if scheme == "light" else light | dark


def luminance(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(each * 2 for each in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("text", ["ink", "soft", "quiet", "accent", "link", "critical", "high", "medium", "low"])
@pytest.mark.parametrize("ground", ["paper", "card", "sunk"])
def test_text_has_enough_contrast_on_every_background(scheme, text, ground):
    assert contrast(colours(scheme)[text], colours(scheme)[ground]) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("text", "ground", "least"),
    [
        ("alert", "alert-card", 4.5),
        ("soft", "alert-card", 4.5),
        ("quiet", "alert-card", 4.5),
        ("alert", "card", 4.5),
        ("mark", "mark-card", 4.5),
        ("accent", "accent-soft", 4.5),
        ("soft", "accent-soft", 4.5),
        ("firm", "card", 3),  # borders of controls
        ("accent", "rest", 1.5),  # the figure stands beside the bar
    ],
)
def test_elements_with_a_background_of_their_own_have_enough_contrast(scheme, text, ground, least):
    assert contrast(colours(scheme)[text], colours(scheme)[ground]) >= least
