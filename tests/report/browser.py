"""A headless Chromium spoken to over a pipe, with nothing but the standard library (DevTools protocol)."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NAMES = ('chromium-headless-shell', 'chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
PROGRAM = next((found for name in NAMES if (found := shutil.which(name))), None)
# The browser reads commands from descriptor 3 and writes to 4.
LAUNCHER = (
    'import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])'
)
OPTIONS = (
    '--headless',
    '--remote-debugging-pipe',
    '--disable-gpu',
    '--disable-dev-shm-usage',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-extensions',
    '--disable-sync',
    '--no-first-run',
    '--hide-scrollbars',
)


class Browser:
    """One tab. Messages of the console, requests and refusals are kept as they come.

    Args:
        folder: for its profile.
        seconds: how long an answer may take.
    """

    def __init__(self, folder: Path, seconds: float = 180.0) -> None:
        assert PROGRAM is not None
        self.seconds = seconds
        self.events: list[dict[str, Any]] = []
        self._buffer = b''
        self._number = 0
        read_commands, self._write = os.pipe()
        self._read, write_answers = os.pipe()
        for descriptor in (read_commands, write_answers):
            os.set_inheritable(descriptor, True)
        sandbox = ['--no-sandbox'] if os.geteuid() == 0 else []  # it refuses root otherwise
        words = [PROGRAM, *OPTIONS, *sandbox, f'--user-data-dir={folder}', 'about:blank']
        self._process = subprocess.Popen(
            [sys.executable, '-S', '-c', LAUNCHER, str(read_commands), str(write_answers), *words],
            pass_fds=(read_commands, write_answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_commands)
        os.close(write_answers)
        self._session: str | None = None
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        self._session = self.call('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self.call(f'{domain}.enable')

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command and waits for its answer."""
        self._number += 1
        message: dict[str, Any] = {'id': self._number, 'method': method, 'params': parameters}
        if self._session is not None:
            message['sessionId'] = self._session
        os.write(self._write, json.dumps(message).encode() + b'\0')
        while True:
            answer = self._next()
            if answer.get('id') == self._number:
                assert 'error' not in answer, f'{method}: {answer["error"]}'
                return answer['result']
            self.events.append(answer)

    def open(self, path: Path, width: int = 1280, height: int = 900, dark: bool = False, script: bool = True) -> None:
        """Opens a file in a window of a size, and waits until it is there."""
        self.call(
            'Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}
        self.call('Emulation.setEmulatedMedia', media='', features=[scheme])
        self.call('Emulation.setScriptExecutionDisabled', value=not script)
        self.events.clear()
        self.call('Page.navigate', url=path.resolve().as_uri())
        deadline = time.monotonic() + self.seconds
        while not any(event.get('method') == 'Page.loadEventFired' for event in self.events):
            assert time.monotonic() < deadline, 'the page does not load'
            self.events.append(self._next())

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        result = self.call('Runtime.evaluate', expression=expression, returnByValue=True, awaitPromise=True)
        assert 'exceptionDetails' not in result, result['exceptionDetails']
        return result['result'].get('value')

    def press(self, key: str) -> None:
        """Presses a key that has a name, such as ArrowLeft."""
        codes = {'Tab': 9, 'End': 35, 'Home': 36, 'ArrowLeft': 37, 'ArrowRight': 39, ' ': 32}
        for kind in ('rawKeyDown', 'keyUp'):
            self.call('Input.dispatchKeyEvent', type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key])

    def move(self, x: float, y: float) -> None:
        """Moves the mouse."""
        self.call('Input.dispatchMouseEvent', type='mouseMoved', x=x, y=y)

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """Saves what the window shows, or the whole page, as a PNG."""
        more: dict[str, Any] = {}
        if whole:
            size = self.call('Page.getLayoutMetrics')['cssContentSize']
            more = {'captureBeyondViewport': True, 'clip': {**size, 'scale': 1}}
        path.write_bytes(base64.b64decode(self.call('Page.captureScreenshot', format='png', **more)['data']))

    def complaints(self) -> list[str]:
        """Errors and warnings of the console since the page was opened."""
        found = []
        for event in self.events:
            detail = event.get('params', {})
            if event.get('method') == 'Runtime.exceptionThrown':
                found.append(str(detail['exceptionDetails']))
            elif event.get('method') == 'Runtime.consoleAPICalled' and detail['type'] in ('error', 'warning', 'assert'):
                found.append(str(detail['args']))
            elif event.get('method') == 'Log.entryAdded' and detail['entry']['level'] in ('error', 'warning'):
                found.append(detail['entry']['text'])
        return found

    def requests(self) -> list[str]:
        """Every address that was asked for since the page was opened."""
        return [e['params']['request']['url'] for e in self.events if e.get('method') == 'Network.requestWillBeSent']

    def close(self) -> None:
        """Ends it."""
        os.close(self._write)  # it ends when nobody can speak to it any more
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + self.seconds
        while b'\0' not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, 'the browser does not answer'
            part = os.read(self._read, 1 << 20)
            assert part, 'the browser has ended'
            self._buffer += part
        message, self._buffer = self._buffer.split(b'\0', 1)
        return json.loads(message)
