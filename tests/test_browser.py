"""The pages of the admin in a real browser: Chromium without a window.

They need Chromium, its driver (Debian and Ubuntu: ``apt install chromium chromium-driver``) and selenium. Where one is
missing the tests are skipped and say so. Where the environment has ``CI`` or ``REQUIRE_BROWSER`` (``.ci/run`` sets it)
they fail instead, so that they are never left out unseen. Nothing is downloaded.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User

from gestore_sync import DisableSynchroLog
from gestore_sync.models import ChangeLog, SyncRun
from testproject.campus.models import Category, Tag

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "remote"])

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DRIVERS = ("chromedriver", "chromium.chromedriver")
PHONE, DESK = (375, 812), (1280, 900)

# How much each text of the page stands out from what is behind it, as WCAG 2 defines contrast.
FIND_FAINT_TEXTS = """
const faintest = arguments[0];
const parse = text => text.match(/[\\d.]+/g).map(Number);
const shine = ([red, green, blue]) => {
    const [r, g, b] = [red, green, blue].map(value => value / 255)
        .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = element => {
    for (; element; element = element.parentElement) {
        const color = parse(getComputedStyle(element).backgroundColor);
        if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
};
const faint = [];
for (const element of document.querySelectorAll('#content-start *')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!(own || element.matches('input[type=submit]')) || !element.checkVisibility()) continue;
    const [a, b] = [parse(getComputedStyle(element).color), behind(element)].map(shine);
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < faintest) faint.push([element.textContent.trim() || element.value, contrast]);
}
return faint;
"""


def find_program(names: tuple[str, ...]) -> str:
    """Where one of these programs is. Without one, the tests are skipped, or fail where that must not be."""
    for name in names:
        if found := shutil.which(name):
            return found
    message = f"{names[0]} was not found: apt install chromium chromium-driver"
    if os.environ.get("CI") or os.environ.get("REQUIRE_BROWSER"):
        pytest.fail(message)
    pytest.skip(message)


class Browser:
    """Chromium, at a site, as somebody uses it."""

    def __init__(self, driver: Any, address: str) -> None:
        self.driver = driver
        self.address = address

    def show(self, size: tuple[int, int] = DESK, *, dark: bool = False) -> None:
        """Be a window or a phone of this size, in a room that is dark or bright."""
        width, height = size
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def open(self, path: str) -> None:
        """Go to a page."""
        self.driver.get(self.address + path)

    def log_in(self, name: str, password: str) -> None:
        """Fill in the form of the admin's login."""
        self.driver.find_element("name", "username").send_keys(name)
        self.driver.find_element("name", "password").send_keys(password)
        self.press("[type=submit]")

    def press(self, selector: str) -> None:
        """Press a button, and wait for the page that it brings."""
        self.leave_by(self.driver.find_element("css selector", selector))

    def follow(self, text: str) -> None:
        """Click on a link, and wait for the page that it leads to."""
        self.leave_by(self.driver.find_element("link text", text))

    def leave_by(self, element: Any) -> None:
        """Click, and wait until the next page is there. Between two pages the driver may lose its way."""
        from selenium.common import WebDriverException
        from selenium.webdriver.support.wait import WebDriverWait

        self.run("window.isLeft = true")
        element.click()
        waiting = WebDriverWait(self.driver, 20, ignored_exceptions=[WebDriverException])
        waiting.until(lambda driver: self.run("return !window.isLeft && document.readyState === 'complete'"))

    @property
    def path(self) -> str:
        """Where one is."""
        return str(self.driver.current_url).removeprefix(self.address)

    @property
    def text(self) -> str:
        """What one sees, in one line."""
        return " ".join(self.driver.find_element("id", "content-start").text.split())

    @property
    def messages(self) -> list[tuple[str, str]]:
        """The admin's messages: ``(kind, text)``."""
        found = self.driver.find_elements("css selector", ".messagelist li")
        return [(item.get_attribute("class"), item.text) for item in found]

    def download(self, selector: str, folder: Path) -> Path:
        """Press a button that brings no page but a file, into an empty folder."""
        from selenium.webdriver.support.wait import WebDriverWait

        behavior = {"behavior": "allow", "downloadPath": str(folder)}
        self.driver.execute_cdp_cmd("Browser.setDownloadBehavior", behavior)
        self.driver.find_element("css selector", selector).click()

        def find_whole(driver: Any) -> list[Path]:
            return [path for path in folder.iterdir() if path.name.startswith("campus.") and path.suffix == ".gz"]

        return WebDriverWait(self.driver, 20).until(find_whole)[0]

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script finds on the page."""
        return self.driver.execute_script(script, *arguments)

    def get_complaints(self) -> list[str]:
        """What the browser could not load, or took for an error."""
        return [line["message"] for line in self.driver.get_log("browser") if "favicon.ico" not in line["message"]]


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    """Chromium and its driver, for all tests of this module."""
    browser, chromedriver = find_program(BROWSERS), find_program(DRIVERS)
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # Containers often have little shared memory, and run as root, where Chromium has no sandbox.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--lang=en"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def browser(driver: Any, live_server: Any, settings: Any) -> Browser:
    """A browser that nobody has logged in with, at a site that logs what happens to its campus."""
    settings.SYNCHRO_MODELS = ["campus"]
    driver.delete_all_cookies()
    browser = Browser(driver, live_server.url)
    browser.show()
    browser.get_complaints()
    return browser


@pytest.fixture
def staff(browser: Browser) -> Browser:
    """The browser after the log in of one who may synchronize."""
    user = User.objects.create_user("ada", password="secret", is_staff=True)
    codenames = ["synchronize", "view_changelog", "view_syncrun"]
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    browser.open("/admin/")
    browser.log_in("ada", "secret")
    return browser


def sent() -> list[str]:
    """The tags on REMOTE."""
    return sorted(Tag.objects.using("remote").values_list("name", flat=True))


def leave_a_conflict(staff: Browser) -> None:
    """Let both sites have other categories with the code that one of them takes."""
    category = Category.objects.create(code="old", name="A name " * 10)
    staff.open("/synchro/")
    staff.press("[name=synchro]")
    with DisableSynchroLog():
        Category(code="new", name="New").save(using="remote")
    category.code = "new"
    category.save()
    Tag.objects.create(name="a-rather-long-name-without-any-place-for-a-break")


def test_the_page_can_be_reached_after_the_log_in(browser: Browser) -> None:
    User.objects.create_superuser("root", password="secret")

    browser.open("/synchro/")
    assert browser.path == "/admin/login/?next=/synchro/"
    browser.log_in("root", "secret")

    assert browser.path == "/synchro/"


def test_preview_then_synchronize(staff: Browser) -> None:
    Tag.objects.create(name="red")

    assert staff.path == "/admin/"
    staff.follow("Synchronize databases")
    assert staff.path == "/synchro/"
    assert "campus.Tag 1" in staff.text

    staff.press("[name=preview]")
    assert staff.messages == [("info", "Nothing was written: this is what would be done.")]
    assert "Preview MODEL CREATED campus.Tag 1" in staff.text
    assert sent() == []

    staff.press("[name=synchro]")
    assert staff.messages == [("success", "Synchronization performed successfully.")]
    assert "Result MODEL CREATED campus.Tag 1" in staff.text
    assert "Nothing is pending." in staff.text
    assert sent() == ["red"]

    staff.press("[name=synchro]")
    assert staff.messages == [("success", "No changes since last synchronization.")]
    assert sent() == ["red"]


def test_a_run_can_be_looked_at(staff: Browser) -> None:
    Tag.objects.create(name="red")
    staff.open("/synchro/")
    staff.press("[name=synchro]")

    staff.press("#synchro-runs tbody a")

    assert staff.path == f"/admin/gestore_sync/syncrun/{SyncRun.objects.get().pk}/change/"
    assert "campus.Tag 1" in staff.text


def test_reset_is_confirmed(staff: Browser) -> None:
    Tag.objects.create(name="red")
    staff.open("/synchro/")

    staff.press("[name=reset]")
    assert "Are you sure" in staff.text
    staff.follow("No, take me back")
    assert staff.path == "/synchro/"
    assert ChangeLog.objects.count() == 1

    staff.press("[name=reset]")
    staff.press("[name=reset]")
    assert staff.path == "/synchro/"
    assert staff.messages == [("success", "Synchronization has been reset.")]
    assert "Nothing is pending." in staff.text
    assert ChangeLog.objects.count() == 0


def test_an_error_is_shown(staff: Browser, settings: Any) -> None:
    staff.open("/synchro/")
    settings.SYNCHRO_REMOTE = None

    staff.press("[name=synchro]")

    assert staff.messages == [("error", "No REMOTE database specified in settings.")]


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_no_page_is_wider_than_the_screen(staff: Browser, size: tuple[int, int]) -> None:
    leave_a_conflict(staff)
    log = f"/admin/gestore_sync/changelog/{ChangeLog.objects.latest('pk').pk}/change/"
    run = f"/admin/gestore_sync/syncrun/{SyncRun.objects.latest('pk').pk}/change/"
    staff.show(size)

    for path in ("/admin/", "/synchro/?reset=1", log, run, "/admin/gestore_sync/syncrun/", "/synchro/"):
        staff.open(path)
        assert staff.run("return document.documentElement.scrollWidth") <= size[0], path
    for button in ("[name=preview]", "[name=synchro]"):
        staff.press(button)
        assert "campus.Category" in staff.text
        assert staff.run("return document.documentElement.scrollWidth") <= size[0], button


@pytest.mark.parametrize("dark", [False, True], ids=["bright", "dark"])
def test_every_text_can_be_read(staff: Browser, dark: bool) -> None:
    leave_a_conflict(staff)
    staff.show(dark=dark)

    for path in ("/synchro/?reset=1", "/synchro/"):
        staff.open(path)
        assert staff.run(FIND_FAINT_TEXTS, 4.5) == []
    staff.press("[name=preview]")
    assert staff.run(FIND_FAINT_TEXTS, 4.5) == []
    assert is_dark(staff) is dark


def is_dark(browser: Browser) -> bool:
    """Whether the page and its tables are dark."""
    colors = browser.run(
        "return ['body', '#synchro-outcome', '.submit-row', '#synchro-outcome tbody tr'].map("
        "  name => getComputedStyle(document.querySelector(name)).backgroundColor)"
    )
    shades = {sum(int(part) for part in color[4:-1].split(",")) < 3 * 128 for color in colors}
    assert len(shades) == 1, colors
    return shades.pop()


def test_the_browser_finds_nothing_amiss(staff: Browser) -> None:
    Tag.objects.create(name="red")
    run = "#synchro-runs tbody a"

    staff.open("/synchro/")
    for button in ("[name=preview]", "[name=synchro]", run):
        staff.press(button)
    staff.open("/synchro/?reset=1")

    assert staff.get_complaints() == []


def test_the_selected_objects_are_downloaded(browser: Browser, settings: Any, tmp_path: Path) -> None:
    settings.GESTORE_SYNC = {"ADMIN_EXPORT": True}
    User.objects.create_superuser("root", password="secret")
    for name in ("blue", "red"):
        Tag.objects.create(name=name)
    browser.open("/admin/campus/tag/")
    browser.log_in("root", "secret")

    for box in browser.driver.find_elements("css selector", ".action-select"):
        box.click()
    browser.run("document.querySelector('[name=action]').value = 'export_bundle'")
    file = browser.download("[name=index]", tmp_path)

    with tarfile.open(file) as bundle:
        assert bundle.getnames()[0] == "manifest.json"
        assert bundle.extractfile(bundle.getnames()[1]).read().count(b"campus.tag") == 2
    assert browser.path == "/admin/campus/tag/"
