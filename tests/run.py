"""Every test: first all notebooks, then the files beside this one.

Run it with the Python that has bearclf's dev requirements: python tests/run.py
"""
import os, subprocess, sys, sysconfig
from pathlib import Path

top, scripts = Path(__file__).resolve().parent.parent, Path(sysconfig.get_path('scripts'))
# Two notebooks at a time, one thread each: torch's threads get into each other's way otherwise
one_thread = {'OMP_NUM_THREADS': '1'}


def step(title, *cmd, **env):
    print(f'\n=== {title}', flush=True)
    return subprocess.run(list(map(str, cmd)), cwd=top, env=os.environ | env).returncode


def main():
    failed = step('A model of the drawn bears, for the notebooks and the tests (made once)',
                  sys.executable, '-W', 'ignore', '-c', 'from fastprogress import fastprogress; fastprogress.NO_BAR = True; '
                  'from bearclf.ship.predict import demo_model; print(demo_model())')
    failed |= step('The notebooks, top to bottom', scripts/'nbdev-test', '--n-workers', 2, '--timing', **one_thread)
    failed |= step('Faults, the command, the page in a browser', sys.executable, '-m', 'pytest', '-q', '-rs', '--durations=5', 'tests')
    return int(bool(failed))


if __name__ == '__main__': sys.exit(main())
