"""How many photos a second `bearclf predict --out` looks at: one process, workers of Ray, and what bounds both.

    python benchmarks/many.py MODEL PHOTOS [WORKERS]       # MODEL: a folder with export.onnx; PHOTOS: any folder
    python benchmarks/many.py --smoke                      # 60 drawn bears, the model of the drawn bears, no Ray

The limit is a bare loop with one thread: decode, resize, ONNX Runtime, nothing else; as many of them at once as there
are cores at work, since cores share a memory; the mean of before and after ours. Of ours the start is left out: time
runs from the end of the first part to that of the last, without the parts that were begun before, so let PHOTOS be
some ten thousand. The memory is the largest of any one process, as the system counts it. The price is EUR 0.05 for a
core and hour, and only a factor: put in your own.
"""
import os, subprocess, sys, tempfile, time
from concurrent.futures import ProcessPoolExecutor
from hashlib import sha256
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path

from common import heading, row, words
from bearclf.ship.many import PART, photos_of
from bearclf.ship.portable import read_portable
from bearclf.ship.predict import demo_model, model_file, portable_of

PRICE = .05  # EUR for a core and hour


def bare(model, files):
    "Photos a second of a bare loop"
    clf = read_portable(portable_of(model_file(model))[0], 1)
    t = time.perf_counter()
    for o in files: clf.session.run(None, {'photo': clf._ready(o)[None]})
    return len(files)/(time.perf_counter() - t)


def limit(model, files, cores):
    "Photos a second of so many bare loops at once"
    with ProcessPoolExecutor(cores, get_context('spawn')) as ex:
        return sum(ex.map(bare, [model]*cores, [files]*cores))


def ours(model, table, workers):
    "Photos a second without the start, where there are parts enough; seconds of all; MB of the largest; the bytes' SHA"
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
        first = max(workers, 1)  # parts that were begun before the first was done: at least so many photos a second
        steady = PART*(len(ends) - first)/(ends[-1] - ends[0]) if len(ends) > first else None
        data = b''.join(o.read_bytes() for o in sorted(Path(d).glob('out/part-*')))
        return steady, took, most, sha256(data).hexdigest()


def main(model, photos, workers=(1, 2)):
    place, names = photos_of(photos)
    files, told = [f'{place}/{o}' for o in names], set()
    some = list(islice(cycle(files), min(len(files), 500)))
    heading('', 'cores', 'photos a second', 'of the limit', 'the limit', 'MB', 'EUR for a million')
    for k in (0, *workers):
        cores = k or os.cpu_count()
        before = limit(model, some, cores)
        steady, took, mb, sha = ours(model, photos, k)
        rate, most = steady or len(files)/took, (before + limit(model, some, cores))/2
        told.add(sha)
        row(f'workers of Ray: {k}' if k else 'one process', cores, f'{rate:.0f}', f'{rate/most:.0%}', f'{most:.0f}',
            f'{mb:.0f}', f'{1e6/rate/3600*cores*PRICE:.2f}')
    print(f'\n{len(files):,} photos, {sum(map(os.path.getsize, files))/len(files)/1e6:.2f} MB each; '
          f'the answers {"differ" if len(told) > 1 else "are the same to the byte"}.')


if __name__ == '__main__':
    if '--smoke' in words(__doc__):
        from bearclf.practice.drawn import drawn_path
        main(demo_model(), drawn_path(n=60, size=64), ())
    else: main(*words(__doc__)[:2], workers=[int(o) for o in words(__doc__)[2:]] or (1, 2))
