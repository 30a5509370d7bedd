"""What it is worth that a head starts from the body's own classes, with 0 to 30 photos of each class to learn from.

    python benchmarks/start.py ../shared/bears_small ../shared/bears_unseen
    python benchmarks/start.py --smoke     # 90 small drawn bears

Learns from photos of the first folder that are not in the second, five draws each, and judges on all of the second.
"""
import sys

from bearclf.practice.drawn import drawn_path
from common import heading, row, spread, words

ARCH = 'efficientnet_lite0'


def main(path, unseen):
    import numpy as np
    from bearclf.all import class_of, class_rows, find_photos, photo_dls, photo_features, photo_learner
    from bearclf.photo import fingerprint
    from bearclf.train.bodies import ClassRows
    from bearclf.train.features import fit_linear
    from fastai.vision.all import nn, tensor, torch
    learn = photo_learner(photo_dls(path), ARCH)
    classes = list(learn.dls.vocab)
    def read(files):
        features = photo_features(files, learn)
        files = [o for o in files if o in features.names]
        return features.averages(files), tensor([classes.index(class_of(o)) for o in files])
    held = find_photos(unseen)
    same = {fingerprint(o) for o in held}
    x, y = read([o for o in find_photos(path) if fingerprint(o) not in same])
    test, drawn = read(held), read(find_photos(drawn_path(300, (128, 256, 512))))
    rows = class_rows(classes, ARCH)
    zero = ClassRows(torch.zeros_like(rows.weight), torch.zeros_like(rows.bias), {})
    share = lambda weight, bias: 100*((test[0]@weight.T + bias).argmax(1) != test[1]).float().mean().item()
    def wrong(x, y, start):
        fit = fit_linear(x, y, nn.functional.cross_entropy, start, .01)
        return share(fit.weight, fit.bias)
    def some(k, seed):
        rng = np.random.default_rng(seed)
        return np.concatenate([rng.permutation(np.flatnonzero(y == c))[:k] for c in range(len(classes))])
    print(f'{len(y)} photos to learn from, {len(test[1])} to judge on')
    heading('photos a class', 'from what the body knows, % wrong', 'from zero, % wrong')
    row(0, f'{share(rows.weight, rows.bias):.1f}', '-')
    for k in 1, 3, 5, 10, 30:
        draws = [some(k, o) for o in range(5)]
        row(k, *(spread([wrong(x[i], y[i], o) for i in draws]) for o in (rows, zero)))
    row('300 drawings', *(f'{wrong(*drawn, o):.1f}' for o in (rows, zero)))


if __name__ == '__main__':
    main(*((drawn_path(90, 64), drawn_path(30, 64, 'unseen')) if '--smoke' in words(__doc__) else words(__doc__)))
