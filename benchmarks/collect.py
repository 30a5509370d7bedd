"""`collect` against the chapter's loop (fastai's `download_images`, `verify_images`, `unlink`), on the same addresses.

    python benchmarks/collect.py
    python benchmarks/collect.py --smoke     # 12 photos a class, once

A practice web in a process of its own answers both: 450 photos in 3 classes on 12 sites, every answer 60 ms late,
10 % of the addresses dead and 5 % stalled. `collect` searches, downloads, decodes every photo whole, takes out personal
data and duplicates, and writes its manifest; the chapter's loop gets its addresses for nothing. Both sides are run by
turns, 3 times.
"""
import json, os, statistics, subprocess, sys, tempfile, time, warnings
from pathlib import Path

warnings.simplefilter('ignore')
import aiohttp, imagehash, pandas as pd, requests, ddgs  # imports are not part of either time
from fastai.vision.all import *
from bearclf.photo import read_photo
from common import heading, row, spread, words
from bearclf.collect.collect import collect
from bearclf.folder.copies import HashIndex, perceptual_hash

TERMS = {'black': 'black bear', 'grizzly': 'grizzly bear', 'teddy': 'teddy bear'}


def practice(**kw):
    "A practice web in a process of its own, and what it says of itself"
    args = [x for k, v in kw.items() for x in (f'--{k}', v if isinstance(v, str) else json.dumps(v))]
    command = [sys.executable, '-m', 'bearclf.practice.web', *args]
    p = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return p, json.loads(p.stdout.readline())


def chapter(web, dest):
    "The chapter's loop"
    for kind in TERMS:
        path = dest/kind
        path.mkdir(parents=True)
        download_images(path, urls=[a['address'] for a in web['addresses'][kind]])
    failed = verify_images(get_image_files(dest))
    failed.map(Path.unlink)


def ours(web, dest, n):
    collect(TERMS, dest, n=n, engine='duckduckgo', cache_days=0, allow_hosts=web['hosts'], **web['reach'])


def counts(dest):
    "Photos kept, and how many of them are different photos"
    kept, distinct = get_image_files(dest), 0
    for folder in {o.parent for o in kept}:
        index = HashIndex()
        for o in kept.filter(lambda o: o.parent == folder):
            h = perceptual_hash(read_photo(o))
            if not index.near(h): distinct += 1; index.add(h, o.name)
    return len(kept), distinct


def main(rounds=3, n=150):
    p, web = practice(n=n, size=256, latency=.06, faults={'dead': .1, 'stalled': .05}, odd=.1)
    n_there = sum(map(len, web['obtainable'].values()))
    rows = {'the chapter': [], 'collect': []}
    for i in range(rounds):
        for name, f in ('the chapter', chapter), ('collect', partial(ours, n=n)):
            with tempfile.TemporaryDirectory() as d:
                os.environ['BEARCLF_CACHE'] = f'{d}/cache'
                t = time.perf_counter()
                f(web, Path(d)/'bears')
                rows[name].append((time.perf_counter()-t, *counts(Path(d)/'bears')))
                print(name, rows[name][-1], file=sys.stderr)
    p.kill()
    ratios, addresses = [a[0]/b[0] for a, b in zip(*rows.values())], sum(map(len, web['addresses'].values()))
    print(f'\n{n_there} different photos can be had from {addresses} addresses. Median of {rounds} runs by turns.\n')
    heading('side', 'seconds', 'files kept', 'different photos')
    for name, o in rows.items():
        row(name, f'{statistics.median(x[0] for x in o):.1f}', o[-1][1], f'{o[-1][2]} of {n_there}')
    row('ratio of the times', spread(ratios, middle=statistics.median), '', '')


if __name__ == '__main__': main(1, 12) if '--smoke' in words(__doc__) else main()
