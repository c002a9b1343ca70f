"""The report says what the run was, letter for letter and point for point, and can neither fetch nor run anything."""

import base64
import hashlib
import math
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model.errors import TrainingError
from tests.model.small import small_checkpoint
from tests.training.html_reader import Node, read_html
from training.report.curves import WIDE, curves, curves_svg
from training.report.held_out_page import held_out_page
from training.report.report import ReportData, report, write_report
from training.report.sample_texts import CopiedText
from training.report.style import DARK, LIGHT, SVG_STYLE

HOSTILE = "\n</pre></script><script>alert(1)</script>\"'><img src=https://example.org/x onerror=alert(1)>&amp;<!--"
CHECKPOINT = small_checkpoint()
NETWORK = CHECKPOINT.config
TEXT = "".join(f"abc {chr(97 + at % 26)} é明 {at % 10}.\n\n" for at in range(500))
TRAINING: dict[str, Any] = {
    "name": "a run",
    "corpus": {"files": ["<b>book</b>.txt"], "characters": 1115394, "encoding": "utf-8", "sha256": "86c4"},
    "split": "90/5/5",
    "plan": {"lanes": 32, "regularisation": {"dropout": 0.25}, "epochs": None, "fit": True},
    "figures": {
        "validation": {"bits_per_character": 1.9289, "nats_per_character": 1.337, "characters": 55769,
                       "protocol": "carried state, 3 lanes"},
    },
    "steps": 300,
    "characters_read": 600000,
    "seconds": 90.0,
    "machine": "a machine",
    "command": "unroll train '<book>.txt'",
}  # fmt: skip


def check(number: int, **values: Any) -> dict[str, Any]:
    """The check of a run at its `number`-th hundred of steps."""
    return {
        "step": 100 * number,
        "characters": 200_000 * number,
        "seconds": 30.0 * number,
        "progress": number / 20,
        "rate": 0.004 / number,
        "characters_per_second": 6000.0 + number,
        "train_bits": 4 / number,
        "validation_bits": 3.0 + abs(number - 3) / 7,
        "gradient_norm": 0.5 + 1 / number,
        "samples": {"0.5": f"cold {number}{HOSTILE}", "0.8": f"\n\twarm {number}", "1": f"hot {number}\r\x00\x1b\x85."},
        **values,
    }


CHECKS = [check(number) for number in range(1, 21)]
COPIED = CopiedText(
    text=f"new {HOSTILE} and some of the old text, and new",
    stretches=[(4, 4 + len(HOSTILE)), (len(HOSTILE) + 9, len(HOSTILE) + 29)],
    longest=HOSTILE,
    novel={8: 0.25, 16: 0.5, 32: 1.0},
    sentence="It copies <much>.",
)
NOTES = ["The network overfits <badly>. To change that, raise --dropout (it was 0.25)."]


def data(**parts: Any) -> ReportData:
    given: dict[str, Any] = {"name": "a <run>", "network": NETWORK, "training": TRAINING, "validations": CHECKS}
    return ReportData(**{**given, "copied": COPIED, "notes": NOTES, **parts})


def visible(text: str) -> str:
    """A text as the page shows it: controls as their pictures."""
    return text.replace("\r", "␍").replace("\x00", "␀").replace("\x1b", "␛").replace("\x85", "\ufffd")


@pytest.fixture(scope="module")
def whole() -> str:
    """A report with everything in it."""
    page = held_out_page(CHECKPOINT, CHECKPOINT.tokenizer.encode(TEXT))
    return report(data(page=page))


@pytest.fixture(scope="module")
def tree(whole: str) -> Node:
    return read_html(whole)


ACTIVE = {
    "script",
    "img",
    "iframe",
    "object",
    "embed",
    "link",
    "base",
    "form",
    "input",
    "video",
    "audio",
    "source",
    "use",
}


def test_the_page_is_a_balanced_tree_without_anything_active(tree: Node) -> None:
    names = {node.name for node in tree.walk()}
    assert names >= {"title", "h1", "nav", "main", "section", "svg", "polyline", "details", "pre", "mark", "table"}
    assert names.isdisjoint(ACTIVE)
    assert [node.name for node in tree.children if isinstance(node, Node)] == ["html"]
    assert tree.all("html")[0].attributes == {"lang": "en"}
    identities = [node.attributes["id"] for node in tree.walk() if "id" in node.attributes]
    assert len(identities) == len(set(identities))
    named = [node.attributes.get("aria-labelledby") for node in tree.all("main")[0].all("section")]
    assert named
    assert set(named) <= set(identities)


def test_nothing_in_it_refers_to_anything_outside(whole: str, tree: Node) -> None:
    links = [node.attributes["href"] for node in tree.walk() if "href" in node.attributes]
    assert links == ["#curves", "#samples", "#page", "#copied", "#card"]
    for link in links:
        assert tree.identified(str(link)[1:]).name == "section"
    for node in tree.walk():
        assert not {"src", "srcset", "style", "action", "xlink:href", "background"} & set(node.attributes)
        assert not [name for name in node.attributes if name.startswith("on")]
    (style,) = tree.all("style")
    assert not re.search(r"url|import|//|</", style.text)
    shown = "".join(node.text for name in ("pre", "bdi", "span") for node in tree.all(name))
    assert "https://example.org" in shown  # which the hostile sample says
    assert len(re.findall("https?:|//", whole)) == len(re.findall("https?:|//", HOSTILE)) * whole.count("onerror")


def test_its_policy_allows_its_own_style_and_nothing_else(tree: Node) -> None:
    (policy,) = [node.attributes["content"] for node in tree.all("meta") if "http-equiv" in node.attributes]
    (style,) = tree.all("style")
    digest = base64.b64encode(hashlib.sha256(style.text.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_hostile_text_stays_text(whole: str, tree: Node) -> None:
    assert "<script" not in whole
    assert "<!--" not in whole
    assert tree.all("h1")[0].text == "a <run>"
    assert "<b>book</b>.txt: 1,115,394 characters, utf-8" in tree.identified("card").text
    assert "unroll train '<book>.txt'" in tree.identified("card").text
    assert "overfits <badly>" in tree.all("ul", "notes")[0].text
    assert [node.text for node in tree.all("ul", "notes")[0].all("code")] == ["--dropout"]


def test_every_check_s_samples_are_there_the_last_open_and_the_best_named(tree: Node) -> None:
    samples = tree.identified("samples")
    for one, written in zip(CHECKS, samples.all("details"), strict=True):
        assert [node.text for node in written.all("pre")] == [visible(text) for text in one["samples"].values()]
        assert [node.text for node in written.all("figcaption")] == [
            "temperature 0.5",
            "temperature 0.8",
            "temperature 1",
        ]
        assert f"step {one['step']:,} · {one['validation_bits']:.3f} bits" in written.all("summary")[0].text
        assert ("best" in written.all("summary")[0].text) == (one["step"] == 300)
        assert ("open" in written.attributes) == (one is CHECKS[-1])
        assert all(node.attributes["lang"] == "" and node.attributes["dir"] == "auto" for node in written.all("pre"))


def test_the_card_has_the_figures_and_every_setting(tree: Node) -> None:
    card, first = tree.identified("card"), tree.all("section", "first")[0]
    assert [node.text for node in first.all("dd")] == ["1.9289", f"{NETWORK.parameters():,}", "600,000", "1.5"]
    rows = {node.all("th")[0].text: [cell.text for cell in node.all("td")] for node in card.all("tr") if node.all("td")}
    assert rows["validation"] == ["55,769", "1.9289", "1.3370", "carried state, 3 lanes"]
    assert rows["parameters"] == [f"{NETWORK.parameters():,}"]
    assert rows["training"] == ["600,000 characters in 300 steps, 1.5 minutes"]
    assert rows["plan, regularisation, dropout"] == ["0.25"]
    assert (rows["plan, epochs"], rows["plan, fit"], rows["hidden"]) == (["none"], ["yes"], [str(NETWORK.hidden)])


def test_the_first_thing_is_the_figure_in_words_with_a_command_and_a_text() -> None:
    test = {"test": {"bits_per_character": 2.0651}, "validation": {"bits_per_character": 2.1}}
    told = data(training={**TRAINING, "figures": test}, checkpoint="'my runs/best'")
    main = read_html(report(told)).all("body")[0]
    first = main.all("section")[0]
    assert first.all("div", "figure")[0].text == "2.07bits per character on text it never learnt from (test part)"
    known = NETWORK.vocabulary - 256
    assert first.all("p", "words")[0].text == (
        "At each character the model is as unsure as if it chose between 4.2 equally likely ones. Guessing blindly "
        f"among the {known} characters it knows would take {math.log2(known):.2f} bits."
    )
    command, sample = first.all("pre")
    assert command.text == "unroll serve 'my runs/best' --open"
    assert sample.text == COPIED.text
    assert [node.text for node in first.all("dd")][:2] == ["2.0651", "2.1000"]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"held_out": False}, "1.93bits per character on the text it learnt from (validation part)"),
        ({"copied": None}, "warm 3"),
        ({"training": {}}, "The run ended before its result was measured."),
        ({"training": {"figures": {"test": {"bits_per_character": math.nan}}}}, "before its result was measured."),
    ],
)
def test_the_first_figure_says_what_it_is_of(parts: dict[str, Any], words: str) -> None:
    first = read_html(report(data(**parts))).all("section", "first")[0]
    assert words in first.text
    assert ("Try it" in first.text) == ("checkpoint" in parts)


def test_notes_show_commands_as_code() -> None:
    notes = read_html(report(data(notes=["Now `unroll train --resume <x>` or --minutes 3."]))).all("ul", "notes")[0]
    assert [node.text for node in notes.all("code")] == ["unroll train --resume <x>", "--minutes"]


def points(svg: Node, style: str) -> list[tuple[float, float]]:
    (group,) = svg.all("g", style)
    (line,) = group.all("polyline")
    written = [tuple(map(float, pair.split(","))) for pair in str(line.attributes["points"]).split()]
    assert [
        (float(str(dot.attributes["cx"])), float(str(dot.attributes["cy"]))) for dot in group.all("circle")
    ] == written
    return [(x, y) for x, y in written]


def ticks(svg: Node, upwards: bool) -> list[tuple[float, float]]:
    """Place and value of each tick, as the labels say."""
    texts = [node for node in svg.all("text") if "name" not in node.styles()]
    chosen = [node for node in texts if (node.attributes["text-anchor"] == "end") == upwards]
    places = [float(str(node.attributes["y" if upwards else "x"])) - (4.5 if upwards else 0) for node in chosen]
    return list(zip(places, [float(node.text.replace(",", "")) for node in chosen], strict=True))


def value(at: float, scale: list[tuple[float, float]]) -> float:
    (a, least), (b, most) = scale[0], scale[-1]
    return least + (at - a) / (b - a) * (most - least)


def test_the_curves_lie_where_the_axes_say(tree: Node) -> None:
    figures = tree.identified("curves").all("figure")
    wide, narrow = figures[0].all("svg", "wide")[0], figures[0].all("svg", "narrow")[0]
    drawn = [(svg, name, f"{name}_bits", 0.03) for svg in (wide, narrow) for name in ("train", "validation")]
    small = zip(figures[1:], ("rate", "characters_per_second", "gradient_norm"), (1e-4, 200.0, 0.03), strict=True)
    for svg, style, key, within in [*drawn, *((one.all("svg")[0], "plain", key, least) for one, key, least in small)]:
        up, across = ticks(svg, True), ticks(svg, False)
        assert len(up) >= 2
        assert len(across) >= 2
        found = points(svg, style)
        assert [value(x, across) for x, _ in found] == pytest.approx(
            [one["characters"] / 1e6 for one in CHECKS], abs=0.02
        )
        assert [value(y, up) for _, y in found] == pytest.approx([one[key] for one in CHECKS], abs=within)
    (ring,) = wide.all("circle", "best")
    assert (float(str(ring.attributes["cx"])), float(str(ring.attributes["cy"]))) == points(wide, "validation")[2]
    assert "best checkpoint: 3.000 at step 300" in figures[0].text
    assert "Train" not in wide.text  # its words are for who does not see it
    assert "train from 4.000 to 0.200, validation from 3.286 to 5.429. best checkpoint: 3.000 at step 300" in str(
        wide.attributes["aria-label"]
    )


def test_the_values_of_the_curves_are_a_table_too(tree: Node) -> None:
    (values,) = tree.identified("curves").all("tbody")
    rows = [[cell.text for cell in row.walk() if cell.name in ("th", "td")] for row in values.all("tr")]
    assert rows[2] == ["300", "600,000", "1.50", "1.3333", "3.0000", "0.00133", "6,003", "0.833", "best"]
    assert [row[0] for row in rows] == [f"{one['step']:,}" for one in CHECKS]


@pytest.mark.parametrize(
    "checks",
    [
        [check(1)],
        [check(1, characters=7), check(2, characters=9)],
        [check(1), check(1)],
        [check(1, train_bits=float("nan"), gradient_norm=float("inf")), check(2)],
        [check(1, rate=0.0, characters_per_second=0.0, gradient_norm=0.0)],
        [check(1, rate=1e-9), check(2, rate=3e-9)],
        [check(1, validation_bits=2.5, train_bits=2.5), check(2, validation_bits=2.5, train_bits=2.5)],
    ],
    ids=["one", "few characters", "the same twice", "not finite", "zeros", "tiny", "level"],
)
def test_odd_runs_are_drawn_within_their_frame(checks: list[dict[str, Any]]) -> None:
    drawn = read_html(f"<div>{curves(checks, 100)}</div>")
    assert ElementTree.fromstring(curves_svg(checks, 100)).tag == "{http://www.w3.org/2000/svg}svg"
    assert "nan" not in drawn.text.lower()
    for svg in drawn.all("svg", "chart"):
        if "swatch" in svg.styles():
            continue
        width, height = map(float, str(svg.attributes["viewbox"]).split()[2:])
        for group in svg.all("g"):
            for x, y in points(svg, group.styles()[1]):
                assert 0 <= x <= width
                assert 0 <= y <= height
        assert [(0 <= x <= width, 0 <= y <= height) for x, y in ticks_places(svg)] == [(True, True)] * len(
            ticks_places(svg)
        )


def ticks_places(svg: Node) -> list[tuple[float, float]]:
    return [(float(str(node.attributes["x"])), float(str(node.attributes["y"]))) for node in svg.all("text")]


def test_a_drawing_has_the_size_it_says() -> None:
    svg = read_html(curves(CHECKS, 300)).all("svg", "wide")[0]
    assert svg.attributes["viewbox"] == f"0 0 {WIDE[0]} {WIDE[1]}"


def test_the_drawing_in_a_file_of_its_own_has_its_own_ground_and_colours() -> None:
    root = ElementTree.fromstring(curves_svg(CHECKS, 300))
    style, ground = root[0], root[1]
    assert style.text == SVG_STYLE
    assert "var(" not in SVG_STYLE
    light, dark = SVG_STYLE.split("@media (prefers-color-scheme:dark)")
    for rules, colours in ((light, LIGHT), (dark, DARK)):
        assert f".card{{fill:{colours['card']}}}" in rules
        assert f".train{{stroke:{colours['rule']}" in rules
        assert f".validation{{stroke:{colours['curve']}" in rules
    assert ground.attrib == {"width": root.attrib["width"], "height": root.attrib["height"], "class": "card"}
    assert [text.text for text in root if text.tag.endswith("text")] == [
        "train", "validation", "best checkpoint: 3.000 at step 300",
    ]  # fmt: skip
    for inner in root.findall("{*}svg"):
        x, y, width, height = (float(inner.attrib[name]) for name in ("x", "y", "width", "height"))
        assert inner.attrib["viewBox"] == f"0 0 {width:g} {height:g}"
        assert x + width <= float(root.attrib["width"])
        assert y + height <= float(root.attrib["height"])


def test_what_was_copied_is_marked_and_nothing_else(tree: Node) -> None:
    copied = tree.identified("copied")
    text, longest = copied.all("pre")
    assert text.text == COPIED.text
    assert [node.text for node in text.all("mark")] == [
        COPIED.text[begin:end].strip() for begin, end in COPIED.stretches
    ]
    assert longest.text == HOSTILE
    assert f"{len(HOSTILE)} characters" in copied.all("h3")[0].text
    rows = [[cell.text for cell in row.walk() if cell.name in ("th", "td")] for row in copied.all("tr")]
    assert rows[1:] == [["8", "25.0%"], ["16", "50.0%"], ["32", "100.0%"]]
    assert "It copies <much>." in copied.text


def test_stretches_that_share_characters_are_marked_once() -> None:
    both = replace(COPIED, text="abcdefgh", stretches=[(1, 4), (3, 6), (6, 99)])
    copied = read_html(report(data(copied=both))).identified("copied")
    assert copied.all("pre")[0].text == "abcdefgh"
    assert [node.text for node in copied.all("mark")] == ["bcd", "ef", "gh"]


def test_a_sample_that_copies_nothing_says_so() -> None:
    copied = read_html(report(data(copied=replace(COPIED, stretches=[])))).identified("copied")
    assert not copied.all("mark")
    assert "No passage of 16 characters and more stands in the corpus" in copied.text


def test_a_run_without_checks_page_or_sample_has_a_report(tmp_path: Path) -> None:
    bare = ReportData(name="bare", network=NETWORK, training={}, validations=[])
    write_report(bare, tmp_path / "report.html")
    tree = read_html((tmp_path / "report.html").read_text("utf-8"))
    assert [node.text for node in tree.all("h2")] == ["Curves", "Samples", "The card"]
    assert "before it was ever validated" in tree.identified("curves").text


def test_equal_stories_give_equal_bytes_below_a_megabyte(tmp_path: Path, whole: str) -> None:
    page = held_out_page(CHECKPOINT, CHECKPOINT.tokenizer.encode(TEXT))
    write_report(data(page=page), tmp_path / "report.html")
    written = (tmp_path / "report.html").read_bytes()
    assert written == whole.encode("utf-8")
    assert len(page.text) == 3000
    assert len(written) < 1_000_000
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_disk_that_refuses_keeps_the_earlier_report(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    (tmp_path / "report.html" / "kept").write_text("")
    with pytest.raises(TrainingError, match=r"could not be written to .*report.html .*; the checkpoints were"):
        write_report(data(), tmp_path / "report.html")
    assert [path.name for path in tmp_path.rglob("*")] == ["report.html", "kept"]
    with pytest.raises(TrainingError, match="No such file"):
        write_report(data(), tmp_path / "nowhere" / "report.html")
