"""A headless Chromium, spoken to in its DevTools protocol through a pipe: no driver, no port, no network.

Messages are JSON, each ended by a zero byte; the browser reads descriptor 3 and writes descriptor 4.
"""

import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["CHROMIUM", "Browser"]

CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
_TIMEOUT = 60.0
_ARGUMENTS = (
    *("--headless=new", "--remote-debugging-pipe", "--no-first-run", "--no-default-browser-check", "--disable-gpu"),
    *("--disable-extensions", "--disable-background-networking", "--disable-sync", "--hide-scrollbars"),
    # Its sandbox starts neither as root nor in most containers; it opens nothing here but our own page.
    "--no-sandbox",
    *("--disable-dev-shm-usage", "--disable-component-update", "--password-store=basic"),
)


class Browser:
    """One browser with one tab; as a context manager it runs."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        """What was asked of the network or the disk, since the tab was opened."""
        self.console: list[str] = []
        """What the browser complained about: errors, refusals of the page's policy."""
        self._number = 0
        self._buffer = b""
        self._session = ""

    def __enter__(self) -> Self:
        assert CHROMIUM is not None
        self._profile = tempfile.mkdtemp()
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        wired = f'exec "$@" 3</proc/self/fd/{to_read} 4>/proc/self/fd/{to_write}'  # where the browser looks for them
        self._process = subprocess.Popen(
            ["sh", "-c", wired, "sh", CHROMIUM, *_ARGUMENTS, f"--user-data-dir={self._profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(to_read, to_write),
            start_new_session=True,
            env={**os.environ, "HOME": self._profile},
        )
        os.close(to_read)
        os.close(to_write)
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self._call(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._read)
        os.close(self._write)
        shutil.rmtree(self._profile, ignore_errors=True)

    def open(self, path: Path, *, width: int = 1280, dark: bool = False) -> str:
        """Open a page and wait until it says that it has verified itself; return its verdict."""
        self.requests.clear()
        self.console.clear()
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 700
        )
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._call("Emulation.setEmulatedMedia", media="", features=scheme)
        self._call("Page.navigate", url=path.absolute().as_uri())
        deadline = time.monotonic() + _TIMEOUT
        while time.monotonic() < deadline:
            state = self.run("document.documentElement?.dataset.state ?? ''")
            if state:
                return str(state)
            time.sleep(0.05)
        raise AssertionError(f"the page never came to an end: {self.console}")

    def run(self, expression: str) -> Any:
        """Evaluate an expression in the page and return its value."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """Press a key, as a person at the keyboard does."""
        text = "\r" if key == "Enter" else ""
        for kind in ("keyDown", "keyUp"):
            self._call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                text=text if kind == "keyDown" else "",
            )

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Write a picture of the page."""
        picture = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(picture["data"]))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                result: dict[str, Any] = answer["result"]
                return result
            self._event(answer)

    def _event(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
            case "Log.entryAdded":
                self.console.append(parameters["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.console.append(str(parameters["exceptionDetails"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            piece = os.read(self._read, 1 << 16)
            assert piece, "the browser is gone"
            self._buffer += piece
        data, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(data)
        return message
