"""The report in a browser: it works, fits, keeps to itself and is not fooled by what users call things."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from test_study_report import HOSTILE, LABELS, fake_run
from trivium.study.report import write_report

pytestmark = pytest.mark.browser
sync_api = pytest.importorskip("playwright.sync_api", reason="`make setup-browser` installs it")

SIZES = {"phone": (390, 844), "desktop": (1280, 900)}
SYSTEM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECTIONS = (
    "verdict",
    "causes",
    "scores",
    "calibration",
    "cost",
    "curves",
    "labels",
    "documents",
    "leaks",
    "notes",
    "again",
)
HARMLESS = {"finetune": 0.5, HOSTILE: 0.5}
LONG = {"finetune": 0.6, "a-name-" * 20: 0.7, "w" * 60: 0.7}


@dataclass
class Seen:
    """A page that is open, and what went wrong in it."""

    page: Any
    errors: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def __call__(self, expression: str) -> Any:
        return self.page.evaluate(expression)

    def column(self, table: str, place: int) -> list[str]:
        """What the shown rows of a table say in a column."""
        cells = self.page.locator(f"{table} tbody tr:not([hidden]) > :nth-child({place})")
        return [" ".join(text.split()) for text in cells.all_inner_texts()]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        if SYSTEM is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("there is no Chromium: `make setup-browser` installs one")
        chromium = playwright.chromium.launch(executable_path=SYSTEM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Any]:
    """Open a file in a window of some size, in light or dark, with or without script."""
    contexts = []

    def go(path: Path, size: str = "desktop", scheme: str = "light", script: bool = True) -> Seen:
        width, height = SIZES[size]
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, java_script_enabled=script
        )
        contexts.append(context)
        seen = Seen(context.new_page())
        seen.page.on("console", lambda message: seen.errors.append(message.text))
        seen.page.on("pageerror", lambda error: seen.errors.append(str(error)))
        seen.page.on("request", lambda request: seen.asked.append(request.url))
        seen.page.goto(path.as_uri())
        return seen

    yield go
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reports of made-up runs: a usual one, one with long names, and one whose texts are HTML and script."""
    place = tmp_path_factory.mktemp("pages")
    labels = [*LABELS, "limits", "evidence", "dispute"]
    runs = {
        "usual": fake_run(place / "usual", labels=labels, half_width=0.08),
        "long": fake_run(place / "long", arms=LONG, labels=["x" * 50, "y" * 90, "z z " * 20], half_width=0.3),
        "hostile": fake_run(
            place / "hostile", arms={"finetune": 0.5, HOSTILE: 0.5}, labels=["a", HOSTILE], text=HOSTILE
        ),
    }
    return {name: write_report(folder) for name, folder in runs.items()}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["usual", "long", "hostile"])
def test_it_fits_and_asks_nobody_for_anything(
    visit: Any, pages: dict[str, Path], tmp_path: Path, name: str, size: str, scheme: str
) -> None:
    seen = visit(pages[name], size, scheme)
    assert seen("document.documentElement.scrollWidth") == SIZES[size][0]
    assert seen.asked == [pages[name].as_uri()]
    assert seen.errors == []
    assert {*SECTIONS} <= set(seen("[...document.querySelectorAll('h2[id]')].map(head => head.id)"))
    for figure in seen("[...document.querySelectorAll('figure > svg')].map(s => [s.clientWidth, s.clientHeight])"):
        assert min(figure) > 60
    seen.page.screenshot(path=tmp_path / f"{name}-{size}-{scheme}.png", full_page=True)
    assert (tmp_path / f"{name}-{size}-{scheme}.png").stat().st_size > 10_000
    assert pages[name].stat().st_size < 3_000_000


def test_light_and_dark_differ_and_both_can_be_read(visit: Any, pages: dict[str, Path]) -> None:
    """Text and its background, WCAG 2.2 contrast 4.5 or more, for plain, muted and judged text."""
    luminance = """color => {
        const [r, g, b] = color.match(/[0-9.]+/g).slice(0, 3).map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return .2126 * r + .7152 * g + .0722 * b }"""
    grounds = []
    for scheme in ("light", "dark"):
        seen = visit(pages["usual"], "desktop", scheme)
        ground = seen(f"({luminance})(getComputedStyle(document.body).backgroundColor)")
        for what in (".headline", "p.muted", ".badge", "caption", "a", "figure svg text"):
            color = seen(
                f"""(() => {{
                    const part = document.querySelector({json.dumps(what)}), style = getComputedStyle(part);
                    return ({luminance})(part.closest('svg') ? style.fill : style.color) }})()"""
            )
            lighter, darker = max(ground, color), min(ground, color)
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (scheme, what)
        grounds.append(ground)
    assert grounds[0] > 0.8
    assert grounds[1] < 0.1


def test_a_click_on_a_head_sorts_the_rows(visit: Any, pages: dict[str, Path]) -> None:
    seen = visit(pages["usual"])
    table = "#score-table"
    arms = seen.column(table, 1)
    head = seen.page.locator(f"{table} thead th").nth(1)
    head.locator("button").click()
    means = [float(text.split()[0]) for text in seen.column(table, 2)]
    assert means == sorted(means, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").click()
    assert [float(text.split()[0]) for text in seen.column(table, 2)] == means[::-1]
    assert head.get_attribute("aria-sort") == "ascending"
    first = seen.page.locator(f"{table} thead th").nth(0)
    first.locator("button").focus()
    seen.page.keyboard.press("Enter")  # a keyboard will do
    assert seen.column(table, 1) == sorted(arms)
    assert head.get_attribute("aria-sort") is None
    assert seen.errors == []


@pytest.mark.parametrize(
    ("said", "largest_first"),
    [
        (
            ["540 of 600", "–", "2.1 M", "−3.0", "[−5.0, 8.0]", "310,000", "< 0.001", "61.0 ± 1.2"],
            ["2.1 M", "310,000", "540 of 600", "61.0 ± 1.2", "< 0.001", "−3.0", "[−5.0, 8.0]", "–"],
        ),
        (["5 min 10 s", "3.2 s", "2 h 5 min", "–"], ["2 h 5 min", "5 min 10 s", "3.2 s", "–"]),
        (["b", "a 10", "a 9"], ["b", "a 10", "a 9"]),
    ],
)
def test_sorting_reads_numbers_as_the_report_writes_them(
    visit: Any, pages: dict[str, Path], said: list[str], largest_first: list[str]
) -> None:
    seen = visit(pages["usual"])
    rows = "".join(f"<tr><th>{i}</th><td>{text}</td></tr>" for i, text in enumerate(said))
    seen(f"document.querySelector('#label-table').tBodies[0].innerHTML = {json.dumps(rows)}")
    seen.page.locator("#label-table thead th").nth(1).locator("button").click()
    assert seen.column("#label-table", 2) == largest_first


def test_arms_can_be_unticked_and_labels_found(visit: Any, pages: dict[str, Path]) -> None:
    seen = visit(pages["usual"])
    table = "#score-table"
    assert len(seen.column(table, 1)) == 5
    heads = len(seen.page.locator("#label-table thead th:visible").all())
    seen.page.get_by_label("random", exact=True).uncheck()
    assert all("random" not in arm for arm in seen.column(table, 1))
    assert len(seen.page.locator("#label-table thead th:visible").all()) == heads - 1
    assert len(seen.page.locator("#label-table tbody tr").first.locator("td:visible").all()) == heads - 2
    seen.page.get_by_label("random", exact=True).check()
    assert len(seen.column(table, 1)) == 5
    seen.page.get_by_label("Find a label").fill("WORK")
    assert seen.column("#label-table", 1) == ["future work"]
    assert seen.page.locator("output").inner_text() == "1 of 9"
    seen.page.get_by_label("Find a label").fill("")
    assert len(seen.column("#label-table", 1)) == 9
    assert seen.errors == []


def test_without_script_all_is_there_and_nothing_is_dead(visit: Any, pages: dict[str, Path]) -> None:
    seen = visit(pages["usual"], script=False)
    assert seen.page.locator("input:visible, button:visible").count() == 0
    for section in SECTIONS:
        assert seen.page.locator(f"h2#{section}").is_visible()
    assert seen.page.locator("table.sortable").first.is_visible()


def test_what_users_wrote_stays_text(visit: Any, pages: dict[str, Path]) -> None:
    seen = visit(pages["hostile"])
    assert seen("document.scripts.length") == 1
    assert seen("document.querySelectorAll('img, iframe, object, embed, link[rel=stylesheet]').length") == 0
    assert "<script src=" in seen("document.body.innerText")
    assert "49" not in seen("document.querySelector('.headline').innerText")
    seen.page.locator("th button").first.click()
    assert seen.errors == []
    assert seen.asked == [pages["hostile"].as_uri()]


def test_the_policy_stops_a_script_that_is_not_ours(visit: Any, pages: dict[str, Path], tmp_path: Path) -> None:
    """The same page with a script smuggled in: the browser does not run it."""
    smuggled = tmp_path / "smuggled.html"
    source = pages["usual"].read_text(encoding="utf-8")
    smuggled.write_text(source.replace("</main>", "<script>document.title = 'owned'</script></main>"), encoding="utf-8")
    seen = visit(smuggled)
    assert seen.page.title() != "owned"
    assert any("Content Security Policy" in error for error in seen.errors)
    asked = seen("fetch('https://x.example/').then(() => 'answered', () => 'refused')")
    assert asked == "refused"


def test_on_paper_it_has_no_controls_and_opens_what_is_folded(
    visit: Any, pages: dict[str, Path], tmp_path: Path
) -> None:
    seen = visit(pages["usual"])
    seen.page.emulate_media(media="print")
    assert seen.page.locator(".tools:visible, nav:visible").count() == 0
    assert seen.page.get_by_text("Documents by source").first.is_visible()
    seen.page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
