"""The explorers in a real browser, in JupyterLab and as a Voilà page, by mouse and by keyboard; then live sampling.

Nothing is timed here: `python -m experiments.browser` measures.
"""

import pytest

pytest.importorskip("playwright", reason="the browser tests need playwright: pip install -e '.[dev]'")

from experiments import browser  # noqa: E402

pytestmark = pytest.mark.skipif(browser.browser_path() is None, reason="there is no Chromium or Chrome on this machine")

CELLS = (
    "from imagen_lite import load_cascade, widgets\ncascade = load_cascade(device='cpu')",
    "widgets.GuidanceExplorer(cascade=lambda: cascade)",
    "widgets.SaturationExplorer('trace-08')",
    "widgets.DenoisingScrubber('trace-00')",
    "widgets.AttentionMaps(widgets.word_maps(cascade, 'a red cone on the grass'))",
    """
import numpy as np
from imagen_lite.evaluate.rating import Pair
light, dark = (np.full((8, 64, 64, 3), value, 'uint8') for value in (200, 60))
widgets.DrawBenchRater([Pair('Colors', p, p, light, dark) for p in ('a red cone', 'a blue cube')], ('light', 'dark'))
""",
    "widgets.CascadeExplorer()",
)
EXPLORERS = (".il-explorer", ".il-saturation", ".il-scrubber", ".il-attention", ".il-cascade")


@pytest.fixture(scope="module", params=["jupyterlab", "voila"])
def shown(request, tmp_path_factory):
    """All explorers on one page, and what the console complained of."""
    folder, errors = tmp_path_factory.mktemp(request.param), []
    notebook = browser.write_notebook(folder / "all.ipynb", *CELLS)
    if request.param == "jupyterlab":
        with browser.jupyter_lab(folder, folder / "log") as address, browser.page(errors) as sheet:
            browser.run_in_lab(sheet, address, notebook.name)
            sheet.wait_for_selector(EXPLORERS[-1] + " .il-screen img", state="attached")
            yield sheet, errors
    else:
        with browser.voila(notebook, folder / "log") as address, browser.page(errors) as sheet:
            sheet.goto(address)
            sheet.wait_for_selector(EXPLORERS[-1] + " .il-screen img", state="attached")
            yield sheet, errors


def picture(sheet, explorer: str) -> str:
    """The bytes of the first picture that an explorer shows."""
    return sheet.locator(f"{explorer} .il-screen img").first.get_attribute("src")


def until_another(sheet, explorer: str, before: str) -> str:
    """Waits until the explorer shows another picture; gives it."""
    sheet.wait_for_function(
        "([r, before]) => { const i = document.querySelector(r + ' .il-screen img'); return i && i.src !== before }",
        arg=[explorer, before],
    )
    return picture(sheet, explorer)


@pytest.mark.parametrize("explorer", EXPLORERS[:-1])
def test_the_slider_moves_by_keyboard_and_by_mouse(shown, explorer):
    sheet, _ = shown
    sheet.locator(explorer).scroll_into_view_if_needed()
    handle = sheet.locator(f"{explorer} .noUi-handle").first
    first = picture(sheet, explorer)
    handle.focus()
    sheet.keyboard.press("ArrowLeft")
    second = until_another(sheet, explorer, first)
    sheet.keyboard.press("ArrowRight")
    assert until_another(sheet, explorer, second) == first
    track = sheet.locator(f"{explorer} .noUi-base").first.bounding_box()
    at = handle.bounding_box()
    sheet.mouse.move(at["x"] + at["width"] / 2, at["y"] + at["height"] / 2)
    sheet.mouse.down()
    sheet.mouse.move(track["x"] + 2, at["y"] + at["height"] / 2, steps=6)
    sheet.mouse.up()
    assert until_another(sheet, explorer, first) != first


def test_thresholding_and_zebra_are_buttons(shown):
    sheet, _ = shown
    root = sheet.locator(".il-explorer")
    before = picture(sheet, ".il-explorer")
    root.get_by_role("button", name="none", exact=True).click()
    sheet.locator(".il-explorer .noUi-handle").first.focus()
    sheet.keyboard.press("End")  # w = 15
    until_another(sheet, ".il-explorer", before)
    stripes = sheet.locator(".il-explorer .il-zebra")
    assert not stripes.is_visible()
    root.get_by_role("button", name="zebra", exact=True).click()
    stripes.wait_for(state="visible")
    root.get_by_role("button", name="plain", exact=True).click()
    stripes.wait_for(state="hidden")


def test_a_pixel_is_followed_by_a_click_and_by_keyboard(shown):
    sheet, _ = shown
    path, column = (sheet.locator(f".il-saturation {part}").first for part in (".widget-image", ".il-column input"))
    before = path.get_attribute("src")
    sheet.locator(".il-saturation .il-pick").click(position={"x": 5 * 10 + 2, "y": 5 * 20 + 2})  # 5 px a pixel
    changed = "([e, before]) => e.src !== before"
    sheet.wait_for_function(changed, arg=[path.element_handle(), before])
    assert (column.input_value(), sheet.locator(".il-saturation .il-row input").input_value()) == ("10", "20")
    sheet.locator(f".il-saturation .il-pick i[style*='top: {100 * 20.5 / 64}%']").wait_for()  # column, then row
    parts = (".il-screen:visible", ".il-pick i")
    picture_at, mark = (sheet.locator(f".il-saturation {part}").bounding_box() for part in parts)
    assert mark["x"] + mark["width"] / 2 - picture_at["x"] == pytest.approx(52.5, abs=1)
    assert mark["y"] + mark["height"] / 2 - picture_at["y"] == pytest.approx(102.5, abs=1)
    before = path.get_attribute("src")
    column.focus()
    sheet.keyboard.press("ArrowUp")
    sheet.wait_for_function(changed, arg=[path.element_handle(), before])
    assert column.input_value() == "11"


def test_another_word_lights_other_places(shown):
    sheet, _ = shown
    shade = sheet.locator(".il-attention .il-shade")
    before = shade.get_attribute("src")
    sheet.locator(".il-attention").get_by_role("button", name="cone", exact=True).click()
    sheet.wait_for_function("before => document.querySelector('.il-attention .il-shade').src !== before", arg=before)


def test_the_cascade_is_shown_stage_by_stage_whole_and_in_detail(shown):
    sheet, _ = shown
    root = sheet.locator(".il-cascade")
    root.scroll_into_view_if_needed()
    image = root.locator(".il-screen img:visible").last
    first = image.get_attribute("src")
    root.locator(".noUi-handle").first.focus()
    sheet.keyboard.press("ArrowRight")  # the augmentation level
    sheet.wait_for_function("([e, before]) => e.src !== before || !e.offsetParent", arg=[image.element_handle(), first])
    assert image.get_attribute("src") != first
    sheet.keyboard.press("ArrowLeft")
    seen = {}
    for stage in root.locator(".widget-toggle-button").all()[:3]:
        stage.click()
        sheet.wait_for_timeout(100)
        seen[stage.inner_text()] = image.get_attribute("src")
    assert len(set(seen.values())) == 3 and {"64", "256"} < set(seen)
    assert image.evaluate("e => getComputedStyle(e).transform") == "none"
    root.get_by_role("button", name="detail", exact=True).click()
    sheet.wait_for_function("e => getComputedStyle(e).transform.startsWith('matrix(4')", arg=image.element_handle())
    root.get_by_role("button", name="whole", exact=True).click()
    root.get_by_role("button", name="256", exact=True).click()


def test_pairs_are_rated_by_mouse_and_by_keyboard(shown):
    sheet, _ = shown
    root = sheet.locator(".il-rater")
    root.scroll_into_view_if_needed()
    onward = root.get_by_role("button", name="next", exact=True)
    for number, press in enumerate((lambda b: b.click(), lambda b: b.press("Enter")), 1):
        root.get_by_text(f"{number} of 2").wait_for()
        assert onward.is_disabled() and root.locator("img").count() == 2
        for button in root.get_by_role("button", name="A", exact=True).all():
            press(button)
        sheet.wait_for_function("b => !b.disabled", arg=onward.element_handle())
        press(onward)
    root.get_by_text("All rated.").wait_for()
    root.get_by_role("cell", name="Colors").wait_for()  # the table comes in a message of its own
    root.get_by_text("light to dark").wait_for()


def test_a_prompt_of_ones_own_is_drawn_and_nonsense_gets_a_sentence(shown):
    sheet, _ = shown
    root = sheet.locator(".il-explorer")
    box, message = root.locator("input[type=text]").first, root.locator(".il-message")
    for text, told in (("x " * 1001, "2,000"), ("🦆", "no words"), ("a blue zebra", "zebra"), ("a red cone", "")):
        box.fill(text)
        box.press("Enter")
        said = "(e => e.textContent.trim() === '')" if not told else f"(e => e.textContent.includes({told!r}))"
        sheet.wait_for_function(said, arg=message.element_handle())
    before = picture(sheet, ".il-explorer") if root.locator(".il-screen img").count() else ""
    until_another(sheet, ".il-explorer", before)
    assert root.get_by_text("at an end of the range").is_visible()


def test_the_last_weight_wins_when_dragging_over_what_is_not_drawn(shown):
    sheet, _ = shown
    root = sheet.locator(".il-explorer")
    box = root.locator("input[type=text]").first
    box.fill("a green tree at night")
    box.press("Enter")
    root.locator(".noUi-handle").first.focus()
    for key in ("Home", *["ArrowRight"] * 6, *["ArrowLeft"] * 3):
        sheet.keyboard.press(key)
    root.get_by_text("at an end of the range").wait_for()
    assert root.locator(".il-screen img").count() >= 1
    root.get_by_role("button", name="Cancel").wait_for()
    assert root.get_by_role("button", name="Cancel").is_disabled()  # nothing is in flight any more


def test_the_console_is_quiet(shown):
    _, errors = shown
    assert errors == []
