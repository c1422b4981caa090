"""The report in a real browser: it loads from disk, decodes its pictures, fits a phone, and fetches nothing."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from dtcwsi.explain import write_report

pytestmark = pytest.mark.browser

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

_PROBE = """
<script>
addEventListener("load", () => {
  const images = [...document.images], curves = [...document.querySelectorAll("svg .curve")];
  const facts = {
    images: images.length,
    decoded: images.filter((image) => image.complete && image.naturalWidth > 100).length,
    rows: document.querySelectorAll("#models tbody tr").length,
    curves: curves.filter((line) => line.getBoundingClientRect().width > 0).length,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    fetched: performance.getEntriesByType("resource").filter((entry) => !entry.name.startsWith("data:")).length,
    ground: getComputedStyle(document.body).backgroundColor,
  };
  document.body.dataset.probe = Object.entries(facts).map(([name, value]) => name + "=" + value).join(";");
});
</script>
"""


@dataclass(frozen=True)
class Browser:
    """Headless Chromium with a profile of its own."""

    binary: str
    profile: Path

    def run(self, page: Path, *options: str, size: str = "1280,900") -> str:
        command = [self.binary, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--user-data-dir={self.profile}", f"--window-size={size}", "--virtual-time-budget=20000"]
        done = subprocess.run(
            [*command, *options, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
        )
        return done.stdout


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Browser:
    wanted = os.environ.get("CHROMIUM")
    binary = wanted or next((found for name in _NAMES if (found := shutil.which(name))), None)
    if binary is None:
        missing = f"no Chromium was found (looked for {', '.join(_NAMES)}); install it or set CHROMIUM to its path"
        if os.environ.get("DTCWSI_REQUIRE_BROWSER"):
            pytest.fail(missing)
        pytest.skip(missing)
    return Browser(binary, tmp_path_factory.mktemp("profile"))


@pytest.fixture(scope="module")
def report(tmp_path_factory, runs, explained) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    second = replace(explained, slide_id="S<2>")
    write_report(path, title="Models & slides", runs=runs, slides=[explained, second], notes=["Synthetic."])
    return path


@pytest.fixture(scope="module")
def probed(report) -> Path:
    """The report with a script that asks the browser; its policy must be lifted for that."""
    source = report.read_text()
    lifted, count = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", source)
    assert count == 1
    path = report.with_name("probed.html")
    path.write_text(lifted.replace("</body>", _PROBE + "</body>"))
    return path


def facts(dom: str) -> dict[str, str]:
    found = re.search(r'data-probe="([^"]*)"', dom)
    assert found, "the page's probe did not run"
    return dict(pair.split("=", 1) for pair in found.group(1).split(";"))


def test_the_page_as_it_is_loads(browser, report):
    dom = browser.run(report, "--dump-dom")
    assert "<title>Models &amp; slides</title>" in dom
    table = re.search(r'<table id="models">.*?</table>', dom, re.DOTALL).group()
    assert re.findall(r'<th scope="row">(.*?)</th>', table) == ["abmil", "dtc-abmil"]
    assert "S&lt;2&gt;" in dom


def test_pictures_decode_and_nothing_is_fetched(browser, probed):
    found = facts(browser.run(probed, "--dump-dom"))
    assert found["images"] == found["decoded"] == "8"
    assert found["rows"] == "2"
    assert int(found["curves"]) >= 4
    assert found["fetched"] == "0"
    assert found["overflow"] == "0"


def test_it_fits_a_phone_and_the_dark(browser, probed):
    found = facts(browser.run(probed, "--dump-dom", "--blink-settings=preferredColorScheme=0", size="500,900"))
    assert found["overflow"] == "0"
    assert found["ground"] == "rgb(20, 23, 28)"


def test_it_is_visible(browser, report, tmp_path):
    browser.run(report, f"--screenshot={tmp_path / 'page.png'}", size="1000,1400")
    seen = cv2.imread(str(tmp_path / "page.png"))
    assert seen.shape[:2] == (1400, 1000)
    assert len(np.unique(seen.reshape(-1, 3), axis=0)) > 50
    assert 0.005 < (seen.max(axis=2) < 128).mean() < 0.5
