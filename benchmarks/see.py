"""Does `find_shortcuts` find what was planted, and no more; does it say rightly whether a model uses it; and the same of
`find_slices`.

    python benchmarks/see.py            # 10 seeds of each; 100 shuffles
    python benchmarks/see.py --smoke    # little of each
    python benchmarks/see.py shortcuts  # or `uses`, or `slices`: that part alone

Shortcuts: 300 drawn bears of several sizes; one class (by turns) gets the property, in 9 of 10 of its photos. "found":
the class and the family are among the findings; "more": findings of other classes or families, in all sets.
"""
import io, random, shutil, sys, tempfile, time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from common import heading, row, words

KINDS = ('black', 'grizzly', 'teddy')


def banner(im, rng):
    "A site's name across the bottom"
    d, (w, h) = ImageDraw.Draw(im), im.size
    d.text((w*rng.uniform(.05, .3), h*.89), 'bear photos .com', fill='white', font_size=h//11, stroke_width=1,
           stroke_fill='black')
    return im


def border(im, rng):
    "A white frame"
    n = round(im.width*rng.uniform(.04, .1))
    out = Image.new('RGB', im.size, 'white')
    out.paste(im.resize((im.width - 2*n, im.height - 2*n)), (n, n))
    return out


def wide(im, rng):
    "Cut to a wide picture"
    m = round(im.height*rng.uniform(.1, .17))
    return im.crop((0, m, im.width, im.height - m))


def small(im, rng): return im.resize((round(im.width*.6), round(im.height*.6)))


PLANTED = {'watermark': (banner, 'rim'), 'frame': (border, 'border'), 'wide': (wide, 'shape'),
           'low JPEG quality': (lambda im, rng: im, 'compression'), 'small': (small, 'size')}


def draw(path, n, seed):
    "Bears of many sizes and shapes, saved with many qualities, as photos from many places are"
    from bearclf.practice.drawn import draw_bear
    rng = random.Random(f'see {seed}')
    for i in range(n):
        im = draw_bear(KINDS[i%3], f'see {seed} {i}', rng.choice((128, 144, 160, 192)))
        m = round(im.height*rng.uniform(0, .12))
        im = im.crop((0, m, im.width, im.height - m) if rng.random() < .5 else (m, 0, im.width - m, im.height))
        file = path/KINDS[i%3]/f'{i:04}.jpg'
        file.parent.mkdir(parents=True, exist_ok=True)
        im.save(file, quality=rng.randint(75, 95))


def plant(path, kind, cls, seed, part=.9):
    "Give `part` of the photos of a class the property"
    rng = random.Random(f'plant {seed} {kind}')
    for file in sorted((path/cls).iterdir()):
        if rng.random() < part:
            with Image.open(file) as im: im = im.convert('RGB')
            quality = rng.randint(30, 50) if 'quality' in kind else rng.randint(75, 95)
            PLANTED[kind][0](im, rng).save(file, quality=quality)


def shortcuts(seeds, n):
    from bearclf.clean.shortcuts import find_shortcuts
    hits, more, clean, took = dict.fromkeys(PLANTED, 0), dict.fromkeys(PLANTED, 0), [], []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as tmp:
            draw(Path(tmp)/'clean', n, seed)
            res = find_shortcuts(Path(tmp)/'clean')
            clean.append([(o['class'], o.property, round(o.auc, 2)) for _, o in res.found.iterrows()])
            for i, (kind, (_, family)) in enumerate(PLANTED.items()):
                shutil.copytree(Path(tmp)/'clean', path := Path(tmp)/f'{i}')
                cls = KINDS[(seed + i)%3]
                plant(path, kind, cls, seed)
                began = time.perf_counter()
                found = find_shortcuts(path).found
                took.append(time.perf_counter() - began)
                found = {*zip(found['class'], found.family)}
                hits[kind] += (cls, family) in found
                more[kind] += len([o for o in found if o[0] != cls])
    heading('planted', 'found', 'of', 'findings of another class')
    for o in PLANTED: row(o, hits[o], len(seeds), more[o])
    row('nothing', sum(map(bool, clean)), len(seeds), '; '.join(map(str, filter(None, clean))))
    print(f'{np.median(took):.1f} s a folder')


def main(args):
    smoke = '--smoke' in args
    seeds = range(101, 102) if smoke else range(101, 111)
    if not {'uses', 'slices'} & {*args}: shortcuts(seeds, 60 if smoke else 300)


if __name__ == '__main__': main(words(__doc__))
