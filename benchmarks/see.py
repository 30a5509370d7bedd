"""Does `find_shortcuts` find what was planted, and no more; does it say rightly whether a model uses it; and the same
of `find_slices`.

    python benchmarks/see.py            # 10 seeds of each, 6 of uses; 100 shuffles
    python benchmarks/see.py --smoke    # little of each
    python benchmarks/see.py shortcuts  # or `uses`, or `slices`: that part alone

Shortcuts: 300 drawn bears of several sizes; one class (by turns) gets the property, in 9 of 10 of its photos. "found":
the class and the family are among the findings. Copies are not looked for, as there are none.
Uses: the same with labels drawn by lot, as else the bears alone tell all; one model has learned from the
planted photos, one from the same photos before. What is true is known from twins: "the property moves" is the part of
the class that the model calls so with the property and not without it (median, least and most).
Slices: errors planted into the table of 414 drawn bears.
"""
import contextlib, io, random, shutil, sys, tempfile, time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from common import heading, row, spread, words

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


def draw(path, n, seed, lots=0):
    """Bears of many sizes and shapes, saved with many qualities, as photos from many places are.

    A part `lots` of them lies in a folder by lot, so that a model needs more than the bears to be right."""
    from bearclf.practice.drawn import draw_bear
    rng = random.Random(f'see {seed}')
    for i in range(n):
        im = draw_bear(KINDS[i%3], f'see {seed} {i}', rng.choice((128, 144, 160, 192)))
        m = round(im.height*rng.uniform(0, .12))
        im = im.crop((0, m, im.width, im.height - m) if rng.random() < .5 else (m, 0, im.width - m, im.height))
        file = path/(rng.choice(KINDS) if rng.random() < lots else KINDS[i%3])/f'{i:04}.jpg'
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
            res = find_shortcuts(Path(tmp)/'clean', copies=False)
            clean.append([(o['class'], o.property, round(o.auc, 2)) for _, o in res.found.iterrows()])
            for i, (kind, (_, family)) in enumerate(PLANTED.items()):
                shutil.copytree(Path(tmp)/'clean', path := Path(tmp)/f'{i}')
                cls = KINDS[(seed + i)%3]
                plant(path, kind, cls, seed)
                began = time.perf_counter()
                found = find_shortcuts(path, copies=False).found
                took.append(time.perf_counter() - began)
                found = {*zip(found['class'], found.family)}
                hits[kind] += (cls, family) in found
                more[kind] += len([o for o in found if o[0] != cls])
        print(f'seed {seed}: {hits}, clean {clean[-1]}', file=sys.stderr, flush=True)
    heading('planted', 'found', 'of', 'findings of another class')
    for o in PLANTED: row(o, hits[o], len(seeds), more[o])
    row('nothing', sum(map(bool, clean)), len(seeds), '; '.join(map(str, filter(None, clean))))
    print(f'{np.median(took):.1f} s a folder')


def uses(seeds, n, arch='efficientnet_lite0'):
    "All labels are drawn by lot, so that no model can learn them but by what was planted"
    from bearclf.clean.shortcuts import _answers, _unseen, find_shortcuts
    from bearclf.train.features import precomputed_learner
    learner = lambda path: precomputed_learner(path, arch, num_workers=0, valid_pct=.5)
    told = lambda said: {k: (sum(o.used for o, _ in v if o), sum(not o.used for o, _ in v if o))
                         for k, v in said.items()}
    said = {(kind, name): [] for kind in PLANTED for name in ('planted', 'clean')}
    for seed in seeds:
        with tempfile.TemporaryDirectory() as tmp, contextlib.redirect_stdout(io.StringIO()):
            draw(Path(tmp)/'clean', n, f'uses {seed}', 1)
            clean = learner(Path(tmp)/'clean')
            for i, (kind, (_, family)) in enumerate(PLANTED.items()):
                shutil.copytree(Path(tmp)/'clean', path := Path(tmp)/f'{i}')
                plant(path, kind, cls := KINDS[(seed + i)%3], seed)
                other = lambda o, a, b: Path(str(o).replace(f'{tmp}/{a}/', f'{tmp}/{b}/'))
                items = list(clean.dls.train_ds.items)
                clean.dls.train_ds.tls[0].items = [other(o, 'clean', i) for o in items]  # learned from, before
                for name, learn in ('planted', learner(path)), ('clean', clean):
                    res = find_shortcuts(path, learn, copies=False)
                    mine = _unseen(learn, res.photos).query('label == @cls').photo
                    with_it, twin = (sum(o == cls for o in _answers(learn, fs)) for fs in (
                        list(mine), [other(o, i, 'clean') for o in mine]))
                    said[kind, name].append((res.uses.get((cls, family)), (with_it - twin)/max(1, len(mine))))
                clean.dls.train_ds.tls[0].items = items
        print(f'seed {seed}: {told(said)}', file=sys.stderr, flush=True)
    heading('planted', 'model learned from', 'the property moves', 'of', 'it uses it', 'no sign')
    for (kind, name), found in said.items():
        row(kind, name, spread([m for _, m in found], '{:.0%}', np.median), len(found), *told(said)[kind, name])


def judged(n, seed='slices'):
    "Properties of `n` drawn bears, and a site for each"
    from bearclf.clean.shortcuts import photo_properties
    with tempfile.TemporaryDirectory() as tmp:
        draw(Path(tmp), n, seed)
        t = photo_properties(tmp, copies=False).rename(columns={'label': 'actual'})
    return t.assign(source=np.random.default_rng(1).choice([f'site{i}.org' for i in range(5)], n))


SLICES = {'a fifth by a property': lambda t, rng: t.brightness >= t.brightness.quantile(.8),
          'a source': lambda t, rng: t.source == 'site2.org',
          'a class': lambda t, rng: t.actual == 'grizzly',
          'a third of a class': lambda t, rng: (t.actual == 'teddy') & (t.density <= t.density.quantile(.33)),
          'a fifth of a class': lambda t, rng: (t.actual == 'teddy') & (t.density <= t.density.quantile(.2))}


def slices(seeds, n, shuffles, inside=.3, outside=.03):
    from bearclf.clean.slices import _slices, find_slices
    t = judged(n)
    wrong = lambda which: t.assign(predicted=np.where(which, 'a rock', t.actual))
    names = _slices(wrong(np.zeros(n, bool)))
    heading(f'{inside:.0%} wrong in', 'photos', 'found', 'of')
    for name, f in SLICES.items():
        part, hits = f(t, None).to_numpy(), 0
        for seed in seeds:
            lots = np.random.default_rng([seed, 7]).random(n)
            found = find_slices(wrong(lots < np.where(part, inside, outside))).found.slice
            hits += any((names[o] & part).sum() >= .5*(names[o] | part).sum() for o in found)
        row(name, part.sum(), hits, len(seeds))
    for k in 12, 40, 80:
        false = sum(len(find_slices(wrong(np.random.default_rng([i, k]).permutation(n) < k)).found) > 0
                    for i in range(shuffles))
        row(f'nothing, {k} errors shuffled', n, false, shuffles)


def main(args):
    smoke, parts = '--smoke' in args, {*args} - {'--smoke'} or {'shortcuts', 'uses', 'slices'}
    seeds = range(101, 102) if smoke else range(101, 111)
    if 'slices' in parts: slices(seeds, 120 if smoke else 414, 3 if smoke else 100)
    if 'shortcuts' in parts: shortcuts(seeds, 60 if smoke else 300)
    if 'uses' in parts: uses(range(501, 502) if smoke else range(501, 507), 60 if smoke else 300)


if __name__ == '__main__': main(words(__doc__))
