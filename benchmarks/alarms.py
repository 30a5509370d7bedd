"""How often the report of a model at work is alarmed

    python benchmarks/alarms.py ../shared/bears_unseen ../shared/bears
    python benchmarks/alarms.py --smoke        # 130 drawn bears, 5 draws

The photos of the first folder come to a model that was trained on the second, or on the bears that bearclf draws if
none is named; without folders, the photos are drawn as well. `find_changes` then compares parts of them: without a
change, at night, at low resolution, with one class halved and doubled, and drawn bears after real ones and the
reverse."""
import sys, tempfile
from contextlib import redirect_stdout

import numpy as np
import pandas as pd
from PIL import Image

from common import words
from bearclf.all import check_folder, drawn_path, export_classifier, load_classifier, precomputed_learner, read_photo
from bearclf.train.features import Familiar
from bearclf.watch.log import photo_numbers
from bearclf.watch.report import find_changes


def night(im, rng):
    dark = .4*np.array(im.convert('L')) + rng.normal(0, 12, im.size[::-1])
    return Image.fromarray(np.uint8(dark.clip(0, 255))).convert('RGB')


def low_resolution(im, rng): return im.resize((32, 32)).resize(im.size, Image.Resampling.BILINEAR)


def answers(clf, files, change=None):
    "A row for each photo, as the log has it"
    rng, rows = np.random.default_rng(1), []
    for i in range(0, len(files), 64):
        photos = [read_photo(o, side=512) for o in files[i:i+64]]
        if change: photos = [change(o, rng) for o in photos]
        rows += [dict(label=p.label, probability=p.probability, near=p.near) | photo_numbers(im)
                 for p, im in zip(clf.many(photos), photos)]
    return pd.DataFrame(rows)


def alarms(before, now, n, runs, seed, pick=None):
    "In how many of `runs` draws of n photos before and n others now there is an alarm; `pick` chooses from the others"
    rng, count = np.random.default_rng(seed), 0
    for _ in range(runs):
        order = rng.permutation(len(before))
        left = before.index[order[n:]]
        rows = now.loc[pick(before, left, rng, n) if pick else left[:n]]
        count += bool(find_changes(before.loc[before.index[order[:n]]], rows))
    return count


def times(k, label):
    "Photos of the others with `k` times as many of `label` as there are"
    def pick(rows, left, rng, n):
        of = rows.label.loc[left]
        m = round(k*n*(rows.label == label).mean())
        a, b = left[of == label], left[of != label]
        return [*rng.choice(a, m, len(a) < m), *rng.choice(b, n - m, len(b) < n - m)]
    return pick


def table(name, plain, changed, n, runs):
    label = plain.label.value_counts().index[len({*plain.label})//2]  # neither the rarest nor the commonest
    print(f'\n{name}, {n} photos before and {n} now:')
    print(f'  no change            {alarms(plain, plain, n, runs, 1):>4} of {runs}')
    for k, rows in changed.items(): print(f'  {k:<20} {alarms(plain, rows, n, runs, 2):>4} of {runs}')
    for k, word in (.5, 'halved'), (2, 'doubled'):
        said = f'{label} {word}'
        print(f'  {said:<20} {alarms(plain, plain, n, runs, 3, times(k, label)):>4} of {runs}')


def main(judge=None, train=None, most=1600, runs=200):
    drawn = check_folder(drawn_path(most, 256, 'alarms')).photos
    files = check_folder(judge).photos if judge else drawn
    with redirect_stdout(sys.stderr):
        learn = (precomputed_learner(train, 'squeezenet1_0') if train else
                 precomputed_learner(drawn_path(300, 256), 'efficientnet_lite0', start='imagenet'))
        learn.familiar = Familiar.of(learn)
        clf = load_classifier(export_classifier(learn, tempfile.mkdtemp()))
    plain = answers(clf, files)
    changed = {o.__name__.replace('_', ' '): answers(clf, files, o) for o in (night, low_resolution)}
    for n in [o for o in (60, 126, 207, 400, 800) if o <= len(files)//2]:
        table('real' if judge else 'drawn', plain, changed, n, runs)
    if not judge: return
    other, rng = answers(clf, drawn[:400]), np.random.default_rng(4)
    draw = lambda o: o.sample(60, random_state=int(rng.integers(1e9)))
    for name, a, b in ('drawn after real', plain, other), ('real after drawn', other, plain):
        found = sum(bool(find_changes(draw(a), draw(b))) for _ in range(runs))
        print(f'\n{name}, 60 photos each: {found} of {runs}')


if __name__ == '__main__':
    args = words(__doc__)
    if '--smoke' in args: main(most=130, runs=5)
    else: main(*args[:2])
