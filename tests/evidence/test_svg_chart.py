from __future__ import annotations

import itertools
import math
import xml.etree.ElementTree as ET

import pytest

from posa_vla.evidence.svg_chart import Line, line_chart

SVG = "{http://www.w3.org/2000/svg}"


def drawn(text: str, tag: str) -> list[ET.Element]:
    return list(ET.fromstring(text).iter(f"{SVG}{tag}"))


def test_a_chart_is_sound_xml_with_its_lines_bands_and_words() -> None:
    lines = [Line("a < b", [1, 2, 3], [0.0, 0.5, 0.2], [-0.1, 0.4, 0.1], [0.1, 0.6, 0.3]), Line("zero", [1, 3], [0, 0])]
    text = line_chart("difference & bounds", "trials", "difference", lines)
    assert len(drawn(text, "polyline")) == 2
    assert len(drawn(text, "polygon")) == 1
    words = [element.text for element in drawn(text, "text")]
    assert {"a < b", "zero", "trials", "difference", "0.4"} <= set(words)
    assert drawn(text, "title")[0].text == "difference & bounds"


def test_the_higher_value_is_drawn_higher_and_labels_do_not_meet() -> None:
    text = line_chart("t", "x", "y", [Line(name, [0, 1], [0, n / 100]) for n, name in enumerate("abcd")])
    ends = [float(line.attrib["points"].split(",")[-1]) for line in drawn(text, "polyline")]
    assert ends == sorted(ends, reverse=True)
    places = sorted(float(e.attrib["y"]) for e in drawn(text, "text") if e.text in set("abcd"))
    assert all(after - before >= 13 for before, after in itertools.pairwise(places))


def test_logarithms_are_written_as_numbers_and_one_point_is_enough() -> None:
    text = line_chart("t", "x", "e-value", [Line("e", [1], [0.0]), Line("20", [1, 9], [3.0, 3.0])], powers_of_ten=True)
    assert {"1", "1,000"} <= {element.text for element in drawn(text, "text")}


@pytest.mark.parametrize("lines", [[], [Line("a", [0, 1], [0, math.nan])], [Line("a", [0], [math.inf])]])
def test_nothing_and_what_is_no_number_cannot_be_drawn(lines: list[Line]) -> None:
    with pytest.raises(ValueError, match="expected"):
        line_chart("t", "x", "y", lines)


def test_a_long_line_keeps_its_last_point_and_stays_small() -> None:
    text = line_chart("t", "x", "y", [Line("a", range(50_000), [n % 7 for n in range(49_999)] + [100])])
    assert len(text) < 30_000
    assert drawn(text, "polyline")[0].attrib["points"].endswith(",34.0")
