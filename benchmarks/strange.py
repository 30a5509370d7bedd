"""How well a model tells photos of its kind from others: by its distance to what was learned from, and by max softmax.

    TORCH_HOME=../shared/torch python benchmarks/strange.py ../shared     # its bears, plants and others
    python benchmarks/strange.py --smoke     # drawn bears, and drawn things
"""
import contextlib, io, tempfile
from pathlib import Path

from bearclf.practice.drawn import draw_outlier, drawn_path
from common import heading, need_weights, row, words


def measured(learn, familiar, files):
    "For each photo: the distance, and how unsure the model is"
    from bearclf.train.features import photo_features
    from fastai.vision.all import torch
    features = photo_features(files, learn)
    files = [o for o in files if o in features.names]
    probs = learn.model[1][-1](features.averages(files)).softmax(1)
    return familiar.near(torch.tensor(features(files))).numpy(), 1 - probs.amax(1).detach().numpy()


def judge(name, path, true, strangers, archs, seeds):
    "A row for each network: photos of `true`, or of the validation photos of some seeds, against each of `strangers`"
    import numpy as np
    from sklearn.metrics import roc_auc_score
    from bearclf.train.data import files_of
    from bearclf.train.features import Familiar, precomputed_learner
    for arch in archs:
        found = []
        for seed in seeds:
            with contextlib.redirect_stdout(io.StringIO()):
                learn = precomputed_learner(path, arch, seed=seed)
                familiar = Familiar.of(learn)
                own = measured(learn, familiar, true or files_of(learn.dls.valid_ds))
                other = [measured(learn, familiar, o) for o in strangers]
            auc = lambda a, b: roc_auc_score([0]*len(a) + [1]*len(b), np.r_[a, b])
            found.append([(own[0] <= familiar.limit).mean(),
                          *(o for s in other for o in (auc(own[0], s[0]), auc(own[1], s[1]),
                                                       (s[0] <= familiar.limit).mean()))])
        row(name, arch, *(f'{o:.3f}' for o in np.mean(found, 0)))


def main(shared):
    from bearclf.folder.look import class_of, find_photos
    for o in 'squeezenet1_0', 'efficientnet_lite0': need_weights(o)
    others = find_photos(shared/'others')
    strangers = [[o for o in others if class_of(o) == k] for k in ('mammals', 'objects')]
    heading('photos', 'network', 'kept', *(f'{k}: {o}' for k in ('mammals', 'objects')
                                           for o in ('AUROC', 'of max softmax', 'let pass')))
    archs = 'squeezenet1_0', 'efficientnet_lite0'
    judge('bears_small, validation photos of 5 seeds', shared/'bears_small', None, strangers, archs, range(5))
    for o in 'bears', 'plants':
        judge(f'{o}, and {o}_unseen', shared/o, find_photos(shared/f'{o}_unseen'), strangers, archs, [42])


def smoke():
    things = Path(tempfile.mkdtemp())
    for i in range(9): draw_outlier(str(i), 128).save(things/f'{i}.png')
    heading('photos', 'network', 'kept', 'AUROC', 'of max softmax', 'let pass')
    judge('drawn bears', drawn_path(60, 128), None, [sorted(things.glob('*.png'))], ['efficientnet_lite0'], [42])


if __name__ == '__main__': smoke() if '--smoke' in words(__doc__) else main(*map(Path, words(__doc__)))
