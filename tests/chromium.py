"""A page in Chromium, driven over its debugging pipe: clicks, keys, screenshots. Needs no library, only the browser."""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

EXECUTABLE = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 120.0
"""Seconds to wait for an answer."""
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe",
)  # fmt: skip
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
COLLECT = """
window.failures = [];
window.addEventListener("error", event => window.failures.push(event.message));
document.addEventListener("securitypolicyviolation", event => window.failures.push(event.violatedDirective));
"""
MIDDLE = """
e.scrollIntoView({ block: "center" });
const box = e.getBoundingClientRect();
return [box.left + box.width / 2, box.top + box.height / 2];
"""


class Chromium:
    """A browser with one page.

    Attributes:
        requests: addresses that the page asked for.
    """

    def __init__(self, process: subprocess.Popen, commands: int, answers: int) -> None:
        self._process, self._commands, self._answers = process, commands, answers
        self._numbers, self._buffer, self._loaded = itertools.count(1), b"", False
        self._session: str | None = None
        self.requests: list[str] = []
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self._send(f"{domain}.enable")
        self._send("Page.addScriptToEvaluateOnNewDocument", source=COLLECT)

    def open(self, page: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a page and wait until it is there."""
        self._send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._send("Emulation.setEmulatedMedia", features=[scheme])
        self._loaded, self.requests = False, []
        self._send("Page.navigate", url=page.resolve().as_uri())
        deadline = time.monotonic() + PATIENCE
        while not self._loaded:
            self._take(self._receive(deadline))

    def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        result = self._send("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"].get("description"))
        return result["result"].get("value")

    def press(self, *keys: str) -> None:
        """Press keys one after another."""
        for key in keys:
            name = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
            text = {"text": "\r"} if key == "Enter" else {}
            self._send("Input.dispatchKeyEvent", type="keyDown", **name, **text)
            self._send("Input.dispatchKeyEvent", type="keyUp", **name)

    def point(self, element: str) -> list[float]:
        """Move the mouse to the middle of the element that an expression returns; return the place."""
        middle = f"(e => {{ {MIDDLE} }})({element})"
        place = self.value(middle)
        self._mouse("mouseMoved", place)
        return place

    def click(self, element: str) -> None:
        """Click the element that an expression returns."""
        place = self.point(element)
        self._mouse("mousePressed", place, button="left", clickCount=1)
        self._mouse("mouseReleased", place, button="left", clickCount=1)

    def screenshot(self, file: Path, height: int | None = None) -> None:
        """Write the whole page, or its first pixels, as PNG."""
        size = self._send("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": height or size["height"], "scale": 1}
        found = self._send("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        file.write_bytes(base64.b64decode(found["data"]))

    def _mouse(self, kind: str, place: list[float], **more: Any) -> None:
        self._send("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], **more)

    def _send(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while (answer := self._receive(deadline)).get("id") != number:
            self._take(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def _take(self, event: dict[str, Any]) -> None:
        if event.get("method") == "Page.loadEventFired":
            self._loaded = True
        elif event.get("method") == "Network.requestWillBeSent":
            self.requests.append(event["params"]["request"]["url"])

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._answers], [], [], max(deadline - time.monotonic(), 0))[0]:
                raise TimeoutError("Chromium does not answer")
            some = os.read(self._answers, 1 << 20)
            if not some:
                raise EOFError("Chromium has ended")
            self._buffer += some
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)


@contextmanager
def chromium(profile: Path) -> Iterator[Chromium]:
    """Start a browser with an empty profile, and end it."""
    assert EXECUTABLE is not None
    commands, answers = os.pipe(), os.pipe()
    redirected = f'exec "$@" 3<&{commands[0]} 4>&{answers[1]}'
    process = subprocess.Popen(
        ["bash", "-c", redirected, "chromium", EXECUTABLE, *OPTIONS, f"--user-data-dir={profile}"],
        pass_fds=(commands[0], answers[1]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(commands[0])
    os.close(answers[1])
    try:
        yield Chromium(process, commands[1], answers[0])
    finally:
        process.kill()
        process.wait()
        os.close(commands[1])
        os.close(answers[0])
