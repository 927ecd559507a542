"""The documentation in a real browser: every page at three widths, dark and light, and the search without a network.

`tox -e docs` builds the site and runs this. The browser is Debian's chromium, if it is there.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytestmark = pytest.mark.timeout(600)

WIDTHS = (360, 800, 1400)
"""Pixels: a phone, a tablet, a desk."""
PATIENCE = 500.0

MEASURE = """<!doctype html><meta charset="utf-8"><body><script>
const widths = %s, pages = %s, found = {pages: [], search: []};
const frame = document.createElement("iframe");
frame.height = 800;
document.body.append(frame);
const load = (source, width) => new Promise(done => {
  frame.width = width;
  frame.onload = () => requestAnimationFrame(() => requestAnimationFrame(() => done(frame.contentDocument)));
  frame.src = source;
});
const light = colour => {
  const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (text, ground) => {
  const [a, b] = [light(text), light(ground)].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
};
(async () => {
  for (const page of pages) for (const width of widths) {
    const seen = await load("/" + page, width), view = seen.defaultView, root = seen.documentElement;
    const foreign = [...seen.querySelectorAll("script[src], link[rel=stylesheet], img")]
      .map(each => each.src || each.href).filter(url => !url.startsWith(location.origin) && !url.startsWith("data:"));
    const themes = {}, underlined = theme => [...seen.querySelectorAll("article .highlight pre span")]
      .filter(each => !each.closest("a") && view.getComputedStyle(each).textDecorationLine !== "none")
      .map(each => theme + ": " + each.textContent);
    for (const theme of ["light", "dark"]) {
      seen.body.dataset.theme = theme;
      const looks = view.getComputedStyle(seen.querySelector("article") || seen.body);
      const ground = view.getComputedStyle(seen.body).backgroundColor;
      themes[theme] = {contrast: contrast(looks.color, ground), ground: light(ground)};
      themes[theme].underlined = underlined(theme).slice(0, 3);
      themes[theme].pictures = [...seen.querySelectorAll("img")].filter(img => img.offsetParent).length;
    }
    found.pages.push({page, width, over: root.scrollWidth - root.clientWidth, foreign, themes});
  }
  const results = await load("/search.html?q=lease", widths[0]);
  const titles = () => [...results.querySelectorAll("#search-results li a")].map(each => each.textContent);
  while (!titles().includes("Pools")) await new Promise(done => setTimeout(done, 50));
  found.search = titles();
})().catch(error => found.error = String(error)).finally(() => fetch("/found", {method: "POST", body: JSON.stringify(found)}));
</script>"""


class Server(SimpleHTTPRequestHandler):
    """Serves the site, the page that measures it, and takes what that has found."""

    found: ClassVar[dict[str, Any]] = {}
    arrived: ClassVar[threading.Event] = threading.Event()

    def do_GET(self) -> None:
        if self.path != "/measure":
            return super().do_GET()
        site = Path(self.directory)
        pages = sorted(str(path.relative_to(site)) for path in site.rglob("*.html") if "_static" not in path.parts)
        body = (MEASURE % (json.dumps(WIDTHS), json.dumps(pages))).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(body)
        return None

    def do_POST(self) -> None:
        self.found.update(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()
        self.arrived.set()

    def log_message(self, *args: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the browser saw."""
    site, chromium = os.environ.get("SITE", ""), shutil.which("chromium")
    if not Path(site, "index.html").is_file():
        pytest.skip("needs the site, which `tox -e docs` builds")
    if chromium is None:
        pytest.skip("needs chromium")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Server, directory=site))
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    command = [
        chromium,
        *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
        *("--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
        *("--remote-debugging-port=0", f"http://127.0.0.1:{server.server_address[1]}/measure"),
    ]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        assert Server.arrived.wait(PATIENCE), "the browser has not told what it saw"
        yield Server.found
    finally:
        os.killpg(browser.pid, signal.SIGKILL)
        browser.wait()
        server.shutdown()
        server.server_close()
        serving.join()


def test_every_page_was_seen(found: dict[str, Any]) -> None:
    """At every width, and the script that measured came to its end."""
    assert "error" not in found
    assert len(found["pages"]) >= 30 * len(WIDTHS)
    assert {each["width"] for each in found["pages"]} == set(WIDTHS)


def test_no_page_scrolls_sideways(found: dict[str, Any]) -> None:
    """Wide tables and code scroll in their own box."""
    assert [(each["page"], each["width"], each["over"]) for each in found["pages"] if each["over"] > 0] == []


def test_nothing_is_loaded_from_elsewhere(found: dict[str, Any]) -> None:
    """The site works offline."""
    assert {url for each in found["pages"] for url in each["foreign"]} == set()


def test_dark_is_dark_and_light_is_light(found: dict[str, Any]) -> None:
    """Text stands out from its ground in both, and each has as many pictures as the other."""
    for each in found["pages"]:
        light, dark = each["themes"]["light"], each["themes"]["dark"]
        assert light["ground"] > 0.8, each
        assert dark["ground"] < 0.1, each
        assert min(light["contrast"], dark["contrast"]) >= 4.5, each
        assert light["pictures"] == dark["pictures"], each


def test_no_code_looks_like_a_link(found: dict[str, Any]) -> None:
    """Styles of code may underline names; on a page that means a link."""
    looks = [(each["page"], theme["underlined"]) for each in found["pages"] for theme in each["themes"].values()]
    assert [(page, words) for page, words in looks if words] == []


def test_the_search_finds_a_page(found: dict[str, Any]) -> None:
    """Without a server of its own, and without a network: leases are explained on the page of pools."""
    assert "Pools" in found["search"]
