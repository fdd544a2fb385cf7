"""Forks interpreters that have imported everything from a process that has, and in which no test ever ran.

A new Python imports torch, mmpretrain and mstkit first, which takes longer than what most programs of the tests do
afterwards. What is about mstkit's own imports (their order, what they say and change) gets an interpreter of a second
server, which has imported only packages that do not depend on it: torch, torchvision, mmengine. What has to be set
before torch is imported starts a new Python all the same, by ``sys.executable``.
"""

from __future__ import annotations

import atexit
import fcntl
import importlib
import json
import logging
import multiprocessing.util
import os
import random
import runpy
import select
import signal
import socket
import sys
import tempfile
import threading
import types
import warnings
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.utils.dl_utils import collect_env

ROOT = Path(__file__).resolve().parents[2]
# xdist's workers find the servers of the process that started them by these.
VARIABLE, FOUNDATIONS_VARIABLE = 'MSTKIT_TESTS_WARM_PYTHON', 'MSTKIT_TESTS_FOUNDATIONS_PYTHON'
PLAIN_VARIABLE = 'MSTKIT_TESTS_PLAIN_PYTHON'  # the program whose copies all of them are
# What mstkit imports that does not import mstkit, mmcv or what is built on mmcv.
FOUNDATIONS: tuple[str, ...] = (
    'torch',
    'torchvision',
    'timm',
    'cv2',
    'matplotlib.pyplot',
    'scipy.stats',
    'scipy.optimize',
)
FOUNDATIONS += ('mmengine.runner', 'mmengine.hooks', 'mmengine.evaluator', 'mmengine.visualization')
LATER = ('mmcv', 'mmpretrain', 'mmdet', 'mmseg', 'mstkit')


def python() -> str:
    """A program that is called as Python is, and has imported mstkit when it starts.

    It takes the path of a program, ``-m`` or ``-c``, the environment, the working directory and the open files of the
    process that calls it, and ends by the same signals and with the same exit code; after a SIGKILL from outside, the
    interpreter ends a moment later than the program, so whoever goes on from what it left kills the interpreter itself.
    ``sys.executable`` is the program itself there. Where a system cannot do it, this is ``sys.executable``.
    """
    return os.environ.get(VARIABLE, sys.executable)


def foundations_python() -> str:
    """As :func:`python`, but neither mstkit has been imported, nor mmcv and what is built on it."""
    return os.environ.get(FOUNDATIONS_VARIABLE, sys.executable)


def plain_python() -> str:
    """Python's own program, also in a process that itself was forked; it has imported nothing."""
    return os.environ.get(PLAIN_VARIABLE, sys.executable)


def start() -> None:
    """Starts the server, a copy of this process, unless there is one; it ends with this process."""
    _start(VARIABLE)


def start_foundations() -> None:
    """Starts the server of :func:`foundations_python`; nobody has imported mstkit yet."""
    for name in FOUNDATIONS:
        importlib.import_module(name)
    early = [name for name in LATER if name in sys.modules]
    if early and FOUNDATIONS_VARIABLE not in os.environ:
        raise RuntimeError(f'imported too early: {early}')
    _start(FOUNDATIONS_VARIABLE)


def _start(variable: str) -> None:
    if variable in os.environ or not hasattr(os, 'pidfd_open'):
        return
    folder = tempfile.mkdtemp(prefix='warm')
    atexit.register(_remove, folder, os.getpid())
    place, program = os.path.join(folder, 'socket'), os.path.join(folder, 'python')
    client = Path(__file__).with_name('client.py')
    Path(program).write_text(f"#!/bin/sh\nexec '{sys.executable}' -SE '{client}' '{place}' \"$@\"\n", encoding='utf-8')
    os.chmod(program, 0o755)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(place)
    listener.listen(64)
    ended, alive = os.pipe()
    os.environ[variable] = program
    os.environ.setdefault(PLAIN_VARIABLE, sys.executable)
    if os.fork() == 0:
        try:
            os.close(alive)
            nothing = os.open(os.devnull, os.O_RDWR)
            for number in range(3):  # who reads what the tests say does not wait for the server
                os.dup2(nothing, number)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the tests' process decides
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for keepers
            _serve(listener, ended, program)
        finally:
            os._exit(1)  # whatever goes wrong, no copy goes on as the tests
    os.close(ended)  # the other end stays open as long as this process is there
    listener.close()


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        os.rmdir(folder)


def _serve(listener: socket.socket, ended: int, program: str) -> NoReturn:
    while True:
        ready, _, _ = select.select([listener.fileno(), ended], [], [])
        if ended in ready:
            os._exit(0)
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            os.close(ended)
            _keep(connection, program)
        connection.close()


def _keep(connection: socket.socket, program: str) -> NoReturn:
    """Starts one interpreter and says how it ended; where nobody waits for that any longer, the caller was killed."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, files, _, _ = socket.recv_fds(connection, 8, 100)
    text = b''
    while len(text) < int.from_bytes(size, 'big'):
        text += connection.recv(1 << 16)
    pid = os.fork()
    if pid == 0:
        connection.close()
        _run(json.loads(text), files, program)
    for file in files:
        os.close(file)
    connection.sendall(b'%d\n' % pid)
    descriptor = os.pidfd_open(pid)
    ready, _, _ = select.select([connection.fileno(), descriptor], [], [])
    if descriptor not in ready:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if descriptor in ready:
        connection.sendall(b'%d\n' % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _run(request: dict[str, Any], files: list[int], program: str) -> NoReturn:
    """What the interpreter does."""
    kept = [fcntl.fcntl(file, fcntl.F_DUPFD, 1000) for file in files]  # out of the way of their numbers
    for file in files:
        os.close(file)
    for number, file in zip(request['files'], kept, strict=True):
        os.dup2(file, number)
        os.close(file)
    _as_new(request, program)
    code = 1
    try:
        _execute(request['words'])
        code = 0
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if not stream.closed:
            stream.flush()
    os._exit(code & 255)


def _as_new(request: dict[str, Any], program: str) -> None:
    """Forgets whose copy this process is, but for what it has imported."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where the tests run under nohup
    os.chdir(request['folder'])
    os.environ.clear()
    os.environ.update(request['environment'])
    sys.stdin = TextIOWrapper(open(0, 'rb', closefd=False), 'utf-8')  # noqa: SIM115
    sys.stdout = TextIOWrapper(open(1, 'wb', closefd=False), 'utf-8', line_buffering=True)  # noqa: SIM115
    sys.stderr = TextIOWrapper(open(2, 'wb', closefd=False), 'utf-8', 'backslashreplace', line_buffering=True)  # noqa: SIM115
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]
    sys.executable = program
    atexit._clear()
    atexit.register(logging.shutdown)
    atexit.register(multiprocessing.util._exit_function)  # type: ignore[attr-defined]
    logging.getLogger().handlers.clear()
    MMLogger._instance_dict.clear()
    DefaultScope._instance_dict.clear()
    warnings.resetwarnings()
    for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter('ignore', kind)
    random.seed()
    np.random.seed()
    torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS') or 1))
    # A Runner asks compilers and drivers for their versions, which takes seconds each time.
    for module in list(sys.modules.values()):
        if getattr(module, '__dict__', {}).get('collect_env') is collect_env:
            module.collect_env = dict  # type: ignore[attr-defined]


def _execute(words: list[str]) -> None:
    """As ``python WORDS``."""
    while words[0] in ('-u', '-B'):
        words = words[1:]
    paths = os.environ.get('PYTHONPATH', '').split(os.pathsep)
    sys.path[:0] = [path for path in paths if path and path not in sys.path]
    kind = words[0] if words[0] in ('-m', '-c') else ''
    sys.path.insert(0, '' if kind else str(Path(words[0]).resolve().parent))
    sys.argv = words[1:] if kind == '-m' else ['-c', *words[2:]] if kind else words
    if kind == '-m':
        runpy.run_module(words[1], run_name='__main__', alter_sys=True)
    elif kind == '-c':
        main = types.ModuleType('__main__')
        sys.modules['__main__'] = main
        exec(compile(words[1], '<string>', 'exec'), vars(main))
    else:
        runpy.run_path(words[0], run_name='__main__')
