"""The page in a real Chromium, without a window and without a network."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mdpo.report import write_report
from mdpo.trajectory import Turn
from tests.mdpo.report_runs import HOSTILE, attempt, make_run, write

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'mdpo[test]'")

PHONE, DESKTOP = {"width": 360, "height": 740}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def browser() -> "Iterator[playwright.Browser]":
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with playwright.sync_playwright() as driver:
        try:
            # Chromium's own sandbox needs namespaces that a container may not give; the page is ours.
            started = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except playwright.Error as error:
            cause = str(error).splitlines()[0]
            pytest.skip(f"no Chromium starts here ({cause}); apt-get install chromium, or playwright install chromium")
        yield started
        started.close()


class Opened:
    """A page with everything that it did which a report must not do."""

    def __init__(self, page: "playwright.Page") -> None:
        self.page = page
        self.bad: list[str] = []
        page.on("dialog", lambda dialog: (self.bad.append(dialog.message), dialog.dismiss()))
        page.on("console", lambda message: self.bad.append(message.text))
        page.on("pageerror", lambda error: self.bad.append(str(error)))
        page.on("request", lambda request: self.bad.append(request.url) if "report.html" not in request.url else None)

    def detail(self) -> str:
        return self.page.locator("#detail").inner_text()

    def count(self) -> str:
        return self.page.locator("#count").inner_text()

    def open(self, path: Path) -> "Opened":
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready]")
        self.page.wait_for_selector("#detail article, #detail .empty")
        return self


@pytest.fixture
def report(browser: "playwright.Browser", request: pytest.FixtureRequest, tmp_path: Path) -> "Iterator[Opened]":
    """The page of a small run, in a window of the size that the test asks for."""
    write_report(make_run(tmp_path / "run"))
    opened = Opened(browser.new_page(viewport=getattr(request, "param", DESKTOP)))
    yield opened.open(tmp_path / "run" / "report.html")
    assert opened.bad == []
    opened.page.close()


def rewrite(path: Path, *found: object) -> Path:
    (path / "iteration-1" / "trajectories.jsonl").unlink()
    write(path / "iteration-1" / "trajectories.jsonl", found)
    write_report(path)
    return path / "report.html"


def test_a_trajectory_shows_its_parts_and_their_action_mask(report: Opened) -> None:
    text = report.detail()
    assert "mask 1 · 2 tokens · mean log-probability −0.3" in text
    assert "ok in 0.01 s · mask 0 · 1 token" in text
    assert report.page.locator(".code .comment").inner_text() == "# run"
    assert report.page.locator("article math mfrac").count() == 1
    mask = [report.page.locator(f".mask .{look}").count() for look in ("prompt", "sampled", "observed")]
    assert mask == [1, 2, 1]


def test_filters_leave_what_fits_and_say_how_many(report: Opened) -> None:
    assert report.count() == "8 of 8 trajectories"
    report.page.select_option("#outcome", "0")
    assert report.count() == "2 of 8 trajectories"
    report.page.select_option("#set", label="iteration-1 rollout")
    assert report.count() == "1 of 8 trajectories"
    report.page.fill("#search", "no such question")
    assert "No trajectory passes" in report.detail()
    report.page.click("#clear")
    report.page.select_option("#change", "01")
    assert report.count() == "2 of 8 trajectories"
    assert "became right" in report.detail()


def test_a_search_finds_questions_and_problems(report: Opened) -> None:
    report.page.fill("#search", "OF Q-2")
    assert report.count() == "2 of 8 trajectories"


def test_everything_can_be_done_from_the_keyboard(report: Opened) -> None:
    press = report.page.keyboard.press
    press("j")
    report.page.wait_for_selector('.row[aria-selected="true"][id="row-1"]')
    press("k")
    press("/")
    report.page.keyboard.type("p-2")
    press("Enter")
    press("End")
    report.page.wait_for_selector('.row[aria-selected="true"][id="row-1"]')
    press("p")
    assert report.page.locator("#only").inner_text() == "only p-2 ×"
    press("s")
    report.page.wait_for_selector(".columns article + article")
    for _ in range(3):
        press("Tab")
    assert report.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_before_and_after_stand_side_by_side(report: Opened) -> None:
    report.page.fill("#search", "p-2")
    report.page.click("#both")
    report.page.wait_for_selector(".columns article + article")
    verdicts = report.page.locator("article strong").all_inner_texts()
    labels = report.page.locator("article").evaluate_all("all => all.map(each => each.ariaLabel)")
    assert verdicts == ["✗ wrong", "✓ right"]
    assert labels == ["sft on quickstart", "iteration-1 on quickstart"]


def test_a_link_leads_to_its_trajectory(report: Opened) -> None:
    report.page.keyboard.press("j")
    report.page.wait_for_url("**#attempt-1")
    report.page.reload()
    report.page.wait_for_selector('.row[aria-selected="true"][id="row-1"]')


@pytest.mark.parametrize("report", [PHONE], indirect=True)
def test_a_phone_never_scrolls_sideways(report: Opened) -> None:
    assert report.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    report.page.click("#both")
    report.page.wait_for_selector(".columns article + article")
    assert report.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


def contrast(page: "playwright.Page", selector: str) -> float:
    """The contrast of a text with the page, as WCAG 2 counts it."""
    return float(
        page.evaluate(
            """(selector) => {
              const light = (colour) => colour.match(/\\d+/g).slice(0, 3).map((c) => c / 255)
                .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
                .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
              const [a, b] = [getComputedStyle(document.querySelector(selector)).color,
                getComputedStyle(document.body).backgroundColor].map(light).sort((x, y) => y - x);
              return (a + 0.05) / (b + 0.05);
            }""",
            selector,
        )
    )


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_texts_stand_out_in_both_modes(report: Opened, mode: str) -> None:
    report.page.emulate_media(color_scheme=mode)
    for selector in ("h1", ".intro", "nav a", ".row .wrong, .row .right"):
        assert contrast(report.page, selector) >= 4.5, selector


def test_hostile_texts_are_shown_and_do_nothing(browser: "playwright.Browser", tmp_path: Path) -> None:
    bad = attempt("q-1", question=HOSTILE, answer=HOSTILE, prediction=HOSTILE, stop_reason=HOSTILE, policy=HOSTILE)
    formula = f"$\\text{{{HOSTILE}}}$ $$\\href{{javascript:hacked=3}}{{x}}$$ \\boxed{{<img src=x onerror=hacked=4>}}"
    call = Turn(f"{formula}\n```python\n'{HOSTILE}\n```", [1], [-1.0], "x", "y" * 50_000 + HOSTILE, [2], HOSTILE)
    deep = Turn("$" + "{" * 900 + "}" * 900 + "$ $" + "\\hat" * 240 + "$ $x" + "'" * 900 + "$", [1], [-1.0])
    bad = replace(bad, turns=[call, deep], problem_id=HOSTILE)
    path = rewrite(make_run(tmp_path / "<script>hacked=5<"), bad)
    opened = Opened(browser.new_page(viewport=PHONE)).open(path)
    opened.page.select_option("#set", label="iteration-1 rollout")
    opened.page.keyboard.press("s")
    opened.page.wait_for_timeout(300)
    seen = opened.detail()
    assert seen.count("</script><script>hacked=1</script><img src=x onerror=hacked=2><!--") >= 5
    assert "<U+2028>␛[31m<U+202E>␀{{7*7}}" in seen
    assert "more characters are not in this page" in seen
    assert opened.page.evaluate("typeof hacked") == "undefined"
    assert opened.page.locator("#detail img, #detail script, #detail a").count() == 0
    assert opened.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert opened.bad == []
    opened.page.close()


def test_mathematics_is_rendered_where_it_is_some_and_shown_as_written_where_it_is_not_known(
    browser: "playwright.Browser", tmp_path: Path
) -> None:
    text = "It costs $5 and sells for $8. $\\unknown{x}$ $\\frac{a$ " + " ".join(f"${formula}$" for formula in FORMULAS)
    path = rewrite(make_run(tmp_path / "run"), attempt("q-1", turns=[Turn(text, [1], [-1.0])]))
    opened = Opened(browser.new_page()).open(path)
    opened.page.select_option("#set", label="iteration-1 rollout")
    opened.page.wait_for_function("document.querySelectorAll('article math').length > 2")
    assert opened.page.locator("article .unread").all_inner_texts() == ["$\\unknown{x}$", "$\\frac{a$"]
    labels = opened.page.locator("article math").evaluate_all("all => all.map(each => each.ariaLabel)")
    assert labels == list(FORMULAS)
    for formula, tag in FORMULAS.items():
        found = opened.page.locator("article math").nth(labels.index(formula))
        assert found.locator(tag).count(), formula
    assert "It costs $5 and sells for $8." in opened.detail()
    assert opened.bad == []
    opened.page.close()


FORMULAS = {
    r"\frac{1}{2} + \dfrac12": "mfrac",
    r"\sqrt[3]{x^2_1}": "mroot",
    r"\sum_{i=1}^{n} i'": "munderover",
    r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}": "mtable",
    r"f(x) = \begin{cases} x &\text{if } x > 0 \\ 0 \end{cases}": "mtable",
    r"\left\lfloor \frac{a}{b} \right\rfloor \le \binom{n}{k}": "mfrac",
    r"\overline{AB} \parallel \vec{v}, \angle ABC = 90^\circ": "mover",
    r"\boxed{\mathbb{R} \setminus \{0\}}": ".boxed",
    r"a \equiv b \pmod{n}, 50\%": "mi",
}
