"""How soon the first page of a `CleaningLoop` is there, and what memory does while somebody pages through all photos.

    python benchmarks/cleaning_page.py 5000
    python benchmarks/cleaning_page.py 100000 FOLDER  # the bears stay in FOLDER, and are drawn once
    python benchmarks/cleaning_page.py --smoke        # 120 photos

The photos are drawn bears of 96 px, all different, and the body is a `resnet18` that has learned nothing, at 64 px. The
clock starts with the loop, and stops when the first page has been made; `photo_dls` before it has a clock of its own.
The same folder is looked at three times, each in a new process: with nothing known, as on the next day, and when ten
photos have been turned in between, of which two or so are kept aside. Of more than 300 pages, 300 are made, evenly
spread.
"""
import os, resource, subprocess, sys, tempfile, time, warnings
from pathlib import Path

warnings.simplefilter('ignore')
from common import words


def rss_mb(): return int(Path('/proc/self/statm').read_text().split()[1])*resource.getpagesize()/2**20


def measure(path):
    from bearclf.clean.loop import CleaningLoop
    from bearclf.train.data import photo_dls
    from bearclf.train.learner import photo_learner
    start = time.perf_counter()
    learn = photo_learner(photo_dls(path, 64), pretrained=False)
    print(f'{time.perf_counter()-start:.1f} s for photo_dls and photo_learner before it', flush=True)
    start = time.perf_counter()
    loop = CleaningLoop(learn, path)
    made = time.perf_counter()
    page, pictures = loop._page({}, 0)
    first = time.perf_counter()
    print(f'{len(loop.issues)} photos and {len(loop.test)} aside: {made-start:.1f} s until the list is there, '
          f'{first-made:.2f} s for the first page of {len(pictures)} cards, {first-start:.1f} s together', flush=True)
    memory, seconds = [rss_mb()], []
    for i in range(1, page['pages'], max(1, page['pages']//300)):
        t = time.perf_counter()
        loop._page({}, i)
        seconds.append(time.perf_counter()-t)
        if len(seconds) % 50 == 0: memory.append(rss_mb())
    print(f'{len(seconds)} of {page["pages"]} pages, {sum(seconds)/len(seconds):.3f} s each; memory in MB every 50:',
          *[f'{o:.0f}' for o in memory], flush=True)
    loop._judged()  # the error at the start, as the page asks for it
    t = time.perf_counter()
    loop.decide(loop.issues.photo[0], '<Keep>')
    wrong = loop.judge.wrong(loop.labels())
    print(f'a decision and the error after it: {time.perf_counter()-t:.2f} s', flush=True)
    loop.decisions.drop()
    print(f'most memory at any moment: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024:.0f} MB', flush=True)


def turn(files):
    from PIL import Image
    for o in files: Image.open(o).rotate(90).save(o)


def main(n=5_000, folder=None):
    from bearclf.practice.drawn import draw_bears
    with tempfile.TemporaryDirectory() as d:
        os.environ['BEARCLF_CACHE'], bears = d + '/cache', Path(folder or d)/'bears'
        if not bears.exists(): draw_bears(bears, int(n), 96, seed='ten thousand', mislabelled=int(n)//20)
        for name in 'nothing known', 'the next day', 'ten photos changed':
            print(f'{name}:', flush=True)
            if 'ten' in name: turn(sorted(bears.glob('*/*.jpg'))[::int(n)//10])
            subprocess.run([sys.executable, __file__, 'measure', bears], check=True)


if __name__ == '__main__':
    if sys.argv[1:2] == ['measure']: measure(Path(sys.argv[2]))
    elif '--smoke' in words(__doc__): main(120)
    else: main(*sys.argv[1:])
