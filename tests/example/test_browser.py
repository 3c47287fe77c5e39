"""Clicking through the wiki in headless Chromium: what a person sees, on a desk and on a phone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ..databases import REQUIRED
from .serving import Server, serve, until

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_DRIVER = shutil.which("chromedriver")
_FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run"
    " --disable-background-networking --disable-component-update --disable-sync"
    " --window-size=1280,900 --force-prefers-reduced-motion"
)

try:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
except ImportError:
    webdriver = None  # type: ignore[assignment]


pytestmark = [pytest.mark.long, pytest.mark.xdist_group("example-browser")]


def _available() -> str | None:
    if webdriver is None:
        return "selenium is not installed"
    if not (_CHROMIUM and _DRIVER):
        return "chromium and chromedriver are not installed"
    return None


Start = Callable[..., Any]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Returns a function that opens a browser of a width, light or dark."""
    reason = _available()
    if reason:
        if REQUIRED:
            pytest.fail(f"the browser is required: {reason}")
        pytest.skip(reason)
    open_ones: list[Any] = []

    def open_one(width: int = 1280, *, dark: bool = False) -> Any:
        options = webdriver.ChromeOptions()
        options.binary_location = _CHROMIUM
        for flag in _FLAGS.split():
            options.add_argument(flag)
        options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        options.set_capability("unhandledPromptBehavior", "accept")
        browser = webdriver.Chrome(options=options, service=Service(_DRIVER))
        open_ones.append(browser)
        look(browser, width, dark=dark)
        return browser

    yield open_one
    for browser in open_ones:
        browser.quit()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(tmp_path_factory.mktemp("site")) as running:
        yield address(running)


@pytest.fixture(scope="module")
def browser(start: Start) -> Any:
    return start()


def address(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


def look(browser: Any, width: int, *, dark: bool = False) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    features = [
        {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def find(browser: Any, selector: str) -> Any:
    return until(lambda: next(iter(browser.find_elements(By.CSS_SELECTOR, selector)), None))


def click(browser: Any, selector: str) -> None:
    """Click, and wait until the page that was there is gone."""
    before = find(browser, "html")
    find(browser, selector).click()
    until(lambda: None if find(browser, "html") == before else True)
    until(lambda: browser.execute_script("return document.readyState") == "complete" or None)


def replace_text(browser: Any, text: str) -> None:
    field = find(browser, "#text")
    field.clear()
    field.send_keys(text)


def complaints(browser: Any) -> list[str]:
    """What the browser complained of: a broken policy, a script error, a missing file."""
    return [entry["message"] for entry in browser.get_log("browser")]


def test_reading_editing_and_finding(site: str, browser: Any) -> None:
    browser.get(site)
    assert find(browser, ".hero h1").text == "Python Topics"
    browser.find_element(By.LINK_TEXT, "Lambdas").click()
    until(lambda: "Lambdas" in browser.title or None)
    click(browser, ".tabs a[href^='/edit/']")
    replace_text(browser, "A *short* text about [[Calls]] and [[Flying circus]].")
    click(browser, "button[value=preview]")
    assert "not saved yet" in find(browser, ".preview").text
    assert find(browser, ".preview em").text == "short"
    click(browser, "button[value=save]")
    assert "Saved." in find(browser, "[role=status]").text
    assert find(browser, ".prose em").text == "short"
    for _ in range(8):  # whoever answers
        browser.refresh()
        assert find(browser, ".prose em").text == "short"
    click(browser, ".prose a.missing")
    assert find(browser, "h1").text == "Flying circus"
    click(browser, "main a.button")
    replace_text(browser, "It flies.")
    click(browser, "button[value=save]")
    assert "Lambdas" in find(browser, ".page-foot .chips").text
    search = find(browser, "#q")
    search.send_keys("flies", Keys.ENTER)
    until(lambda: "flies" in browser.title or None)
    assert find(browser, ".found h2").text == "Flying circus"
    assert find(browser, ".found mark").text == "flies"


def test_rename_and_delete(site: str, browser: Any) -> None:
    browser.get(f"{site}/edit/Short-lived")
    replace_text(browser, "Here.")
    click(browser, "button[value=save]")
    click(browser, ".tabs a[href^='/rename/']")
    name = find(browser, "#new_name")
    name.clear()
    name.send_keys("Was/it? #1 “50%”")
    click(browser, "main .button")
    assert find(browser, "h1").text == "Was/it? #1 “50%”"
    click(browser, ".tabs a[href^='/delete/']")
    click(browser, ".danger")
    assert "Deleted" in find(browser, "[role=status]").text
    click(browser, ".changes .what")
    assert "Bring this text back" in find(browser, "main").text


def test_settings_change_the_colour(site: str, browser: Any) -> None:
    def colour() -> str:
        script = "return getComputedStyle(document.documentElement).getPropertyValue('--accent')"
        return str(browser.execute_script(script)).strip()

    browser.get(f"{site}/settings")
    before = colour()
    browser.execute_script("document.getElementById('accent').value = '#8a2be2'")
    click(browser, "main .button")
    assert "Saved." in find(browser, "[role=status]").text
    assert colour() == "#8a2be2" != before


def test_two_windows(site: str, browser: Any) -> None:
    browser.get(f"{site}/edit/Slicings")
    mine = browser.current_window_handle
    browser.switch_to.new_window("window")
    theirs = browser.current_window_handle
    browser.get(f"{site}/edit/Slicings")
    replace_text(browser, "Theirs.")
    click(browser, "button[value=save]")
    browser.switch_to.window(mine)
    replace_text(browser, "Mine.")
    click(browser, "button[value=save]")
    assert "Two edits at once" in browser.title
    assert find(browser, "#theirs").get_attribute("value") == "Theirs."
    assert find(browser, "#text").get_attribute("value") == "Mine."
    replace_text(browser, "Theirs. Mine.")
    click(browser, "button[value=save]")
    assert find(browser, ".prose").text == "Theirs. Mine."
    browser.switch_to.window(theirs)
    browser.refresh()
    assert find(browser, ".prose").text == "Theirs. Mine."
    browser.close()
    browser.switch_to.window(mine)


def test_keyboard(site: str, browser: Any) -> None:
    browser.get(site)
    find(browser, "body").send_keys(Keys.TAB)
    assert browser.switch_to.active_element.text == "Skip to the text"
    find(browser, "body").send_keys("/")
    assert browser.switch_to.active_element.get_attribute("id") == "q"
    assert browser.switch_to.active_element.get_attribute("value") == ""


def test_text_that_is_not_saved_is_not_left_silently(site: str, browser: Any) -> None:
    browser.get(f"{site}/edit/Calls")
    find(browser, "#text").send_keys("More")
    left = browser.execute_script(
        "const e = new Event('beforeunload', {cancelable: true});"
        "window.dispatchEvent(e); return e.defaultPrevented"
    )
    assert left


PAGES = [
    "/", "/wiki/Basic_customization", "/wiki/Format_String_Syntax", "/wiki/How_to_write",
    "/wiki/" + "W" * 120, "/pages", "/recent", "/search?q=statement", "/edit/Calls", "/new",
    "/settings", "/rename/Calls", "/delete/Calls", "/history/Calls", "/revision/1",
]  # fmt: skip

_MEASURE = """
const wide = [...document.querySelectorAll('body *')].filter(e => {
  const box = e.getBoundingClientRect();
  if (!box.width || box.right <= innerWidth + 1 || e.closest('.unseen')) return false;
  for (let p = e.parentElement; p; p = p.parentElement)
    if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(p).overflowX)) return false;
  return true;
});
const named = [...document.querySelectorAll('main input:not([type=hidden]), textarea')]
  .filter(e => !e.labels.length);
return {
  scroll: document.documentElement.scrollWidth - innerWidth,
  wide: wide.map(e => e.tagName + '.' + e.className),
  unnamed: named.map(e => e.id),
  headings: document.querySelectorAll('h1').length,
  background: getComputedStyle(document.body).backgroundColor,
};
"""


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (375, True)], ids=["desk", "phone"])
def test_every_page_fits(site: str, browser: Any, width: int, dark: bool) -> None:
    complaints(browser)
    look(browser, width, dark=dark)
    try:
        for path in PAGES:
            browser.get(site + path)
            measured = browser.execute_script(_MEASURE)
            background = measured.pop("background")
            assert background == ("rgb(23, 25, 27)" if dark else "rgb(251, 250, 247)")
            assert measured["headings"] >= 1, path
            assert measured["scroll"] <= 0, (path, measured)
            assert measured["wide"] == [], path
            assert measured["unnamed"] == [], path
        said = [line for line in complaints(browser) if "404 (NOT FOUND)" not in line]
        assert said == []
    finally:
        look(browser, 1280)


def test_without_javascript(site: str, browser: Any) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(f"{site}/edit/Numeric_literals")
        field = find(browser, "#text")
        field.clear()
        field.send_keys("Plain.")
        find(browser, "button[value=save]").click()
        assert "Saved." in find(browser, "[role=status]").text
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
