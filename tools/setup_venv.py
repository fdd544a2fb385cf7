"""Makes .venv and installs mstkit into it, once: ``python3 tools/setup_venv.py [GROUP ...]``, as the Makefile calls it.

It leaves an environment alone that already holds what is asked for. It uses the standard library only, and the syntax
of Python 3.6: an old Python has to be able to read it in order to say that it is too old.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys

OLDEST = (3, 10)
TRIED = ('python3.12', 'python3.11', 'python3.10', 'python3')
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, '.venv')
STAMP = os.path.join(VENV, 'mstkit-installed.json')
NETWORK_SIGNS = ('connection broken', 'connectionerror', 'timed out', 'timeouterror', 'max retries exceeded')
NETWORK_SIGNS += ('name resolution', 'name or service not known', 'network is unreachable', 'proxyerror')


class SetupError(Exception):
    """Why there is no environment, in one sentence that says what to do."""


def ask(python, code):
    """Runs ``code`` with an interpreter; returns what it printed, or None where that failed."""
    try:
        process = subprocess.Popen([python, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        output = process.communicate()[0]
    except OSError:
        return None
    return output.decode('utf-8', 'replace').strip() if process.returncode == 0 else None


def version_of(python):
    """The (major, minor) of an interpreter, or None where it does not run."""
    answer = ask(python, 'import sys; print("%d.%d" % sys.version_info[:2])')
    return tuple(int(part) for part in answer.split('.')) if answer else None


def dotted(version):
    return '.'.join(str(part) for part in version)


def venv_python():
    return os.path.join(VENV, 'bin', 'python')


def check_interpreter(goal):
    """Stops before anything is made when the running interpreter cannot make the environment.

    Args:
        goal: the make target, for the command in the message.
    """
    here = tuple(sys.version_info[:2])
    if here < OLDEST:
        newer = [name for name in TRIED if (version_of(name) or (0, 0)) >= OLDEST]
        way_out = f'run "make {goal} PYTHON={newer[0] if newer else "python3.12"}"'
        if not newer:
            way_out = 'install Python 3.12, then ' + way_out
        raise SetupError(f'Python {dotted(here)} is too old, mstkit needs 3.10 or newer: {way_out}.')
    if ask(sys.executable, 'import venv, ensurepip') is None:
        raise SetupError(
            f'Python {dotted(here)} came without its venv module: install it (on Debian and Ubuntu "apt install '
            f'python{dotted(here)}-venv"), then run "make {goal}" again.'
        )


def create_venv():
    """Makes .venv afresh with the interpreter that runs this."""
    base = getattr(sys, '_base_executable', sys.executable)
    status = subprocess.call([base, '-m', 'venv', '--clear', VENV])
    if status != 0:
        raise SetupError(f'Could not make {VENV}: free its disk or mend its permissions, then try again.')


def ensure_venv(goal, chosen):
    """Makes .venv unless there is a usable one.

    Args:
        goal: the make target, for messages.
        chosen: the user named the interpreter, so that an environment of another version has to go.
    """
    there = version_of(venv_python())
    here = tuple(sys.version_info[:2])
    fits = there is not None and there >= OLDEST and (there == here or not chosen)
    if fits and (os.path.exists(STAMP) or ask(venv_python(), 'import pip') is not None):
        return
    check_interpreter(goal)
    if there is not None and there != here:
        print(f'.venv has Python {dotted(there)}: making it again with {dotted(here)}', flush=True)
    else:
        print(f'Making .venv with Python {dotted(here)}', flush=True)
    create_venv()


def digest(group):
    """What the installation of a group depends on: its files, the interpreter and the folder it points to."""
    names = ['setup.py', 'pyproject.toml', 'requirements/runtime.txt', f'requirements/{group}.txt']
    found = hashlib.sha256(f'{ROOT} {version_of(venv_python())}'.encode())
    for name in names:
        with open(os.path.join(ROOT, name), 'rb') as file:
            found.update(file.read() + b'\0')
    return found.hexdigest()


def read_stamp():
    """The groups that are installed, each with its digest; {} where that cannot be read."""
    try:
        with open(STAMP, encoding='utf-8') as file:
            stamp = json.load(file)
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(stamp):
    partial = STAMP + '.part'
    with open(partial, 'w') as file:
        json.dump(stamp, file, indent=1, sort_keys=True)
    os.replace(partial, STAMP)


def pip_install(arguments):
    """Runs pip, whose progress goes to the terminal as it is; returns its exit status and what it said on stderr."""
    command = [venv_python(), '-m', 'pip', 'install', '--disable-pip-version-check', *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
    said = []
    for raw in process.stderr:
        line = raw.decode('utf-8', 'replace')
        said.append(line)
        sys.stderr.write(line)
        sys.stderr.flush()
    return process.wait(), ''.join(said)


def install(groups, goal):
    """Installs mstkit, editable, with the extras in ``groups``; explains a failure in one sentence."""
    extras = [group for group in groups if group != 'runtime']
    print(f'Installing mstkit ({", ".join(groups)}) into .venv: some gigabytes the first time', flush=True)
    status, said = pip_install(['-e', f'.[{",".join(extras)}]' if extras else '.'])
    if status == 0:
        return
    if 'no space left' in said.lower():
        reason = 'The disk is full: free about 15 GB (or set TMPDIR to a larger disk)'
    elif any(sign in said.lower() for sign in NETWORK_SIGNS):
        reason = 'The package index cannot be reached: check the network connection (or the proxy settings of pip)'
    else:
        reason = 'pip could not install mstkit, its own last lines above say why: mend that'
    raise SetupError(f'{reason}, then run "make {goal}" again.')


def ensure_cv2():
    """Makes OpenCV work on a machine without a display.

    mmcv asks for opencv-python, which needs libGL of the system; a fresh server or container has none. The build named
    headless holds the same package without windows and needs nothing of the system.
    """
    if ask(venv_python(), 'import cv2') is not None:
        return
    version = ask(venv_python(), 'from importlib.metadata import version; print(version("opencv-python"))')
    if version:
        print('This machine has no libGL: putting the headless build of OpenCV in place', flush=True)
        pip_install(['--force-reinstall', '--no-deps', 'opencv-python-headless==' + version])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('groups', nargs='*', default=['runtime'], help='runtime, tests, docs, tracking, shards')
    parser.add_argument('--goal', default='demo', help='the make target to name in messages')
    parser.add_argument('--chosen', action='store_true', help='the interpreter was named by the user')
    arguments = parser.parse_args()
    try:
        ensure_venv(arguments.goal, arguments.chosen)
        wanted = {group: digest(group) for group in arguments.groups}
        stamp = read_stamp()
        missing = [group for group in arguments.groups if stamp.get(group) != wanted[group]]
        if missing:
            # Gone while pip works: what is interrupted half-way must not pass for installed.
            write_stamp({group: value for group, value in stamp.items() if group not in missing})
            install(missing, arguments.goal)
            ensure_cv2()
            write_stamp(dict(read_stamp(), **{group: wanted[group] for group in missing}))
    except SetupError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f'error: Interrupted: run "make {arguments.goal}" again to go on.', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
