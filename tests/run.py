"""Every test: the notebooks from top to bottom, and what lies beside this file.

Run it with the Python that has bearclf's dev requirements: python tests/run.py
python tests/run.py --all      also what is exhaustive: every seed, every fault, the benchmarks
"""
import os, subprocess, sys
from pathlib import Path

top = Path(__file__).resolve().parent.parent
workers = str(min(4, os.cpu_count() or 2))  # as many at a time as there are cores


def step(title, *cmd):
    print(f'\n=== {title}', flush=True)
    return subprocess.run([sys.executable, *cmd], cwd=top).returncode


def main(*args):
    failed = step('A model of the drawn bears, for the notebooks and the tests (made once)', '-W', 'ignore', '-c',
                  'from bearclf.core import lines_for_bars; lines_for_bars(); '
                  'from bearclf.ship.predict import demo_model; print(demo_model())')
    which = 'exhaustive or not exhaustive' if args == ('--all',) else 'not exhaustive'
    failed |= step('The notebooks, faults, the command, the page in a browser', '-m', 'pytest', '-q', '-rs', '-m',
                   which, '--durations=10', '--timeout', '1800',  # what hangs says where, and the others go on
                   '-n', workers, '--dist', 'worksteal', 'tests')
    return int(bool(failed))


if __name__ == '__main__': sys.exit(main(*sys.argv[1:]))
