"""web/bridge.js where tests/browser/test_in_page.py does not reach: called by a window itself."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.conftest import OpenPage
from tools.wheel import wheel_name

pytestmark = pytest.mark.browser

DOWNLOAD = """async ([url]) => {
  const { download } = await import("/web/bridge.js");
  const { status, bytes } = download(url);
  if (!bytes) return [status, ""];
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [status, Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("")];
}"""


@pytest.mark.parametrize("isolated", [True, False])
def test_a_window_downloads_every_byte_as_it_is(
    browser_page: OpenPage, dist: Path, isolated: bool
) -> None:
    page = browser_page(isolated)
    page.goto("http://localhost/site.json")
    expected = hashlib.sha256((dist / wheel_name()).read_bytes()).hexdigest()
    assert page.evaluate(DOWNLOAD, [f"/{wheel_name()}"]) == [200, expected]
    assert page.evaluate(DOWNLOAD, ["/nothing.bin"]) == [404, ""]


def test_a_window_knows_its_surroundings(browser_page: OpenPage) -> None:
    page = browser_page()
    page.goto("http://localhost/site.json")
    said = page.evaluate("import('/web/bridge.js').then((m) => m.surroundings())")
    cores = page.evaluate("navigator.hardwareConcurrency")
    assert said == {"isolated": True, "cores": cores, "window": True}
