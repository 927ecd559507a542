"""A real browser, where there is one: Debian's chromium, driven by selenium."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

BROWSER = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    *("--disable-background-timer-throttling", "--disable-renderer-backgrounding", "--window-size=1400,900"),
)
LIMIT = 200.0
"""Seconds to wait for anything; the machine may be busy."""


@contextmanager
def chrome() -> Iterator[Any]:
    """A browser with nothing in it; the test is skipped where there is none."""
    if BROWSER is None or DRIVER is None:
        pytest.skip("no browser here: needs Debian's chromium and chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        options = webdriver.ChromeOptions()
        options.binary_location = BROWSER
        for flag in (*FLAGS, f"--user-data-dir={directory}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(DRIVER, log_output=os.devnull))
        driver.set_script_timeout(LIMIT)
        driver.set_page_load_timeout(LIMIT)
        try:
            yield driver
        finally:
            driver.quit()


class Page:
    """One window of the browser, asked while the loop goes on."""

    def __init__(self, driver: Any, handle: str) -> None:
        self.driver, self.handle = driver, handle

    @classmethod
    async def opened(cls, driver: Any, url: str, width: int = 1400, height: int = 900) -> Page:
        """A new window, which has forgotten what others were told."""

        def open_it() -> str:
            driver.switch_to.new_window("window")
            driver.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
            )
            driver.get(url)
            handle: str = driver.current_window_handle
            return handle

        return cls(driver, await asyncio.to_thread(open_it))

    async def do(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page, and return what it returns."""

        def run() -> Any:
            if self.driver.current_window_handle != self.handle:
                self.driver.switch_to.window(self.handle)
            return self.driver.execute_script(script, *arguments)

        return await asyncio.to_thread(run)

    async def until(self, expression: str, *arguments: Any) -> Any:
        """Wait until an expression is true in the page; fail with what the page shows."""
        end = time.monotonic() + LIMIT
        while not (found := await self.do(f"return {expression}", *arguments)):
            assert time.monotonic() < end, f"never: {expression}; the page: {await self.text('body')!r:.2000}"
            await asyncio.sleep(0.02)
        return found

    async def text(self, selector: str) -> str:
        found: str = await self.do("return document.querySelector(arguments[0])?.innerText ?? ''", selector)
        return found

    async def click(self, selector: str, words: str = "") -> None:
        """Click the first element that fits and has these words."""
        await self.until(
            "[...document.querySelectorAll(arguments[0])].some((each) => each.innerText.includes(arguments[1]))",
            selector,
            words,
        )
        await self.do(
            "[...document.querySelectorAll(arguments[0])].find((each) => each.innerText.includes(arguments[1])).click()",
            selector,
            words,
        )

    async def choose(self, name: str) -> None:
        """Choose a machine in the list, and wait for its diagram."""
        await self.click(".line:not([hidden]) .name", name)
        await self.until("document.querySelector('#detail h2')?.innerText.includes(arguments[0])", name)
        await self.until("document.querySelector('.frame .lit')")

    async def complaints(self) -> list[str]:
        """What the browser has logged as an error, such as what the content security policy refused."""

        def read() -> list[str]:
            self.driver.switch_to.window(self.handle)
            return [each["message"] for each in self.driver.get_log("browser") if each["level"] == "SEVERE"]

        return await asyncio.to_thread(read)

    async def close(self) -> None:
        def close_it() -> None:
            self.driver.switch_to.window(self.handle)
            self.driver.close()
            self.driver.switch_to.window(self.driver.window_handles[0])

        await asyncio.to_thread(close_it)
