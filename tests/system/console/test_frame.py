"""Frame of the console: addresses, menu, keys of the keyboard, languages, colours, sizes and the policy."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Final

import httpx
import pytest

from contracts.ids import new_id
from services.gateway.console.routes import console, preloaded_modules
from services.gateway.settings import ConsoleSettings
from tests.harness.clients.console_browser import PHONE, console_tab

pytestmark = pytest.mark.anyio

_FIRST_PAGE_BYTES: Final = 63_000
_FOLDER: Final = Path(__file__).parents[3] / "services" / "gateway" / "console"
#: The names of the texts in a language, in every module of words, as far down as they go.
_NAMES_OF_TEXTS: Final = """
async (language, modules) => {
  const base = document.querySelector('script[type=module]').src.replace(/main\\.js$/, '');
  const preferences = await import(base + 'preferences.js');
  preferences.language.value = language;
  const names = (value, at) => value && typeof value === 'object' && !Array.isArray(value)
    ? Object.entries(value).flatMap(([name, inside]) => names(inside, at + '.' + name)) : [at + ':' + typeof value];
  const found = [];
  for (const module of modules) {
    for (const [name, texts] of Object.entries(await import(base + module)))
      if (name !== 'dictionary') found.push(...names(texts(), module + ' ' + name));
  }
  return found;
}"""


def test_the_root_leads_to_the_console_and_an_old_file_is_gone(origin: str) -> None:
    with httpx.Client(base_url=origin, trust_env=False) as http:
        answer = http.get("/")
        assert (answer.status_code, answer.headers["location"]) == (307, "console")
        page = http.get("/console/jobs/job_x?state=failed")
        assert page.headers["content-type"].startswith("text/html")
        assert "script-src 'self';" in page.headers["content-security-policy"]
        assert http.get("/console-files/0000000000000000/main.js").status_code == 404


def test_the_first_page_is_small() -> None:
    bundle = console("/")
    entry = "pages/start/page.js"
    styles = {"tokens.css", "console.css", "pages/start/page.css"}
    names = {"main.js", entry, *styles, *preloaded_modules(_FOLDER), *preloaded_modules(_FOLDER, entry)}
    sizes = {name: len(file.compressed or file.body) for name in names for file in [bundle.files[name]]}
    sizes["page.html"] = len(gzip.compress(bundle.pages["page.html"].body))
    assert sum(sizes.values()) < _FIRST_PAGE_BYTES, sorted(sizes.items(), key=lambda item: -item[1])


def test_the_client_is_the_published_one() -> None:
    published = (_FOLDER.parents[2] / "clients" / "js" / "saccade.js").read_text(encoding="utf-8")
    assert (_FOLDER / "vendor" / "saccade.js").read_text(encoding="utf-8") == published, "run deploy/console's build"


@pytest.mark.parametrize(
    ("given", "path"),
    [("", "/"), ("/", "/"), ("some/prefix", "/some/prefix/"), ("/a/", "/a/"), ("/a.b/~c", "/a.b/~c/")],
)
def test_a_public_path_has_a_slash_at_both_ends(given: str, path: str) -> None:
    assert ConsoleSettings(public_path=given).public_path == path
    assert f'<base href="{path}">' in console(path).pages["page.html"].body.decode()


@pytest.mark.parametrize("given", ['/"><script>', "//elsewhere.example/", "/../", "/a b/"])
def test_what_is_no_path_is_refused(given: str) -> None:
    if given.startswith("//"):
        assert ConsoleSettings(public_path=given).public_path == "/elsewhere.example/"
        return
    with pytest.raises(ValueError, match="GATEWAY_PUBLIC_PATH"):
        ConsoleSettings(public_path=given)


async def test_the_keyboard_reaches_every_page_and_the_search(origin: str) -> None:
    async with console_tab(origin, "/console/keys") as tab:
        await tab.until_heading("Keys")
        await tab.press("g", "j")
        await tab.until("location.pathname", "/console/jobs")
        await tab.press("g", "k")
        await tab.until_heading("Keys")
        await tab.press("/")
        await tab.until("document.activeElement.id", "search")
        await tab.evaluate("document.activeElement.blur()")
        await tab.press("?")
        await tab.until("document.getElementById('help').open")
        tab.check_clean()


async def test_the_content_is_reached_without_leaving_the_page(origin: str) -> None:
    async with console_tab(origin, "/console/keys?x=y") as tab:
        await tab.until_heading("Keys")
        await tab.press("Tab")
        await tab.until("document.activeElement.className", "skip")
        await tab.press("Enter")
        await tab.until("document.activeElement.id", "content")
        assert await tab.evaluate("location.pathname + location.search") == "/console/keys?x=y"
        assert await tab.heading() == "Keys"
        tab.check_clean()


#: Whether another element lies over the one that has the focus, the menu's own entries aside.
_COVERED: Final = """(focused => {
  const box = focused.getBoundingClientRect();
  const found = document.elementFromPoint(box.x + box.width / 2, box.y + Math.min(box.height / 2, 18));
  return !focused.closest('.menu') && Boolean(found?.closest('.menu'));
})(document.activeElement)"""


async def test_what_has_the_focus_on_a_phone_is_not_below_the_menu(origin: str) -> None:
    async with console_tab(origin, "/console", size=PHONE) as tab:
        await tab.until("document.querySelectorAll('main h3').length > 3")
        await tab.evaluate("document.querySelector('main h2').setAttribute('tabindex', '-1')")
        await tab.evaluate("document.querySelector('main h2').focus()")
        covered = []
        for _ in range(8):
            await tab.press("Tab")
            if await tab.evaluate(_COVERED):
                covered.append(await tab.evaluate("document.activeElement.innerText"))
        assert await tab.evaluate("document.activeElement.closest('main') !== null")
        assert covered == []


async def test_a_session_is_found_by_its_id(origin: str) -> None:
    session_id = new_id("ses")
    async with console_tab(origin, "/console/keys") as tab:
        await tab.until_heading("Keys")
        await tab.fill("#search", session_id)
        await tab.click("#search")
        await tab.press("Enter")
        await tab.until("location.pathname", f"/sessions/{session_id}")
        await tab.until("document.getElementById('state')?.innerText.toLowerCase()", "no such session")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("/console/%E0%A4%A", "There is no page at this address"),
        ("/console/jobs/%E0%A4%A", "There is no such job"),
        ("/console/keys?q=%E0%A4%A", "Keys"),
    ],
)
async def test_an_address_that_is_not_well_formed_says_so(origin: str, address: str, shown: str) -> None:
    async with console_tab(origin, address) as tab:
        await tab.until(f"document.body.innerText.includes({shown!r})")


async def test_each_text_is_there_in_every_language_and_goes_through_the_dictionary(origin: str) -> None:
    modules = sorted(path.relative_to(_FOLDER).as_posix() for path in _FOLDER.glob("**/words.js"))
    async with console_tab(origin, "/console/keys") as tab:
        await tab.until_heading("Keys")
        english = await tab.evaluate(f"({_NAMES_OF_TEXTS})('en', {modules})")
        assert await tab.evaluate(f"({_NAMES_OF_TEXTS})('de', {modules})") == english
        await tab.evaluate(f"({_NAMES_OF_TEXTS})('pseudo', [])")
        await tab.until("document.querySelector('h1').innerText[0]", "[")
        plain = "[...document.querySelectorAll('.menu a:not(.name), main h1, main h2, main p, main dt, main button')]"
        texts = await tab.evaluate(f"{plain}.map(one => one.innerText.trim()).filter(Boolean)")
        assert [text for text in texts if not text.startswith("[")] == []
        tab.check_clean()


async def test_a_phone_shows_the_menu_at_the_bottom_and_nothing_protrudes(origin: str) -> None:
    async with console_tab(origin, "/console/keys", size=PHONE, scheme="dark") as tab:
        await tab.until_heading("Keys")
        assert await tab.width_px() <= PHONE[0]
        assert await tab.evaluate("document.querySelector('.menu').getBoundingClientRect().bottom") == PHONE[1]
        tab.check_clean()
