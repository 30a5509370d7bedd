"""How many photos a second `bearclf predict --out` looks at: one process, workers of Ray, and what bounds both.

    python benchmarks/many.py MODEL PHOTOS [WORKERS]       # MODEL: a folder with export.onnx; PHOTOS: any folder
    python benchmarks/many.py --smoke                      # 60 drawn bears, the model of the drawn bears, no Ray

The limit is a bare loop in one process and one thread: decode, resize, ONNX Runtime, nothing else; `of the limit` is
photos a second and process, divided by the limit's. Ray's share is counted without its start, from the first part to
the last. The memory is the largest of any one process, as the system counts it. The price is EUR 0.05 for a core and
hour, and is only a factor: put in your own.
"""
import subprocess, sys, tempfile, time
from itertools import cycle, islice
from pathlib import Path

from common import heading, row, words
from bearclf.ship.many import PART, photos_of
from bearclf.ship.portable import read_portable
from bearclf.ship.predict import demo_model, model_file, portable_of

PRICE = .05  # EUR for a core and hour


def limit(model, files):
    "Seconds that a bare loop takes"
    clf = read_portable(portable_of(model_file(model))[0], 1)
    t = time.perf_counter()
    for o in files: clf.session.run(None, {'photo': clf._ready(o)[None]})
    return time.perf_counter() - t


def ours(model, table, workers):
    "Photos a second from the first part to the last, or over all; seconds of all; MB of the largest process"
    import psutil
    with tempfile.TemporaryDirectory() as d:
        t, most = time.perf_counter(), 0
        proc = subprocess.Popen([sys.executable, '-m', 'bearclf', 'predict', model, table, '--out', f'{d}/out',
                                 '--workers', str(workers)], stdout=subprocess.DEVNULL)
        while proc.poll() is None:
            for o in [p := psutil.Process(proc.pid), *p.children(recursive=True)]:
                try: most = max(most, o.memory_info().rss/1e6)
                except psutil.Error: pass
            time.sleep(.2)
        took = time.perf_counter() - t
        if proc.returncode > 1: sys.exit('The command has failed.')
        ends = sorted(o.stat().st_mtime for o in Path(d).glob('out/part-*'))
        steady = len(ends) - 1
        return PART*steady/(ends[-1] - ends[0]) if steady else None, took, most


def main(model, photos, workers=(1, 2), n=None):
    place, names = photos_of(photos)
    files = [f'{place}/{o}' for o in names]
    bare = len(some := list(islice(cycle(files), min(len(files), 1000))))/limit(model, some)
    heading('', 'photos a second', 'of the limit, a process', 'MB', 'EUR for a million')
    def tell(name, rate, k, mb): row(name, f'{rate:.0f}', f'{rate/k/bare:.0%}', mb, f'{1e6/rate/3600*k*PRICE:.2f}')
    tell('the limit: decode and ONNX Runtime', bare, 1, '-')
    for k in (0, *workers):
        steady, took, mb = ours(model, photos, k)
        tell(f'{k} workers' if k else 'one process', steady or len(files)/took, max(k, 1), f'{mb:.0f}')


if __name__ == '__main__':
    if '--smoke' in words(__doc__):
        from bearclf.practice.drawn import drawn_path
        main(demo_model(), drawn_path(n=60, size=64), ())
    else: main(*words(__doc__)[:2], workers=[int(o) for o in words(__doc__)[2:]] or (1, 2))
