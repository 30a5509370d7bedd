"""Peak memory of `precomputed_learner`, and of one unfrozen epoch, on 50,000 photos, above what the model itself takes.

    TORCH_HOME=../shared/torch python benchmarks/memory.py 50000
    TORCH_HOME=../shared/torch python benchmarks/memory.py --smoke     # 50 photos

The photos are 1,000 drawn bears of 128 px, each copied with other bytes behind its end, so that no two files are the
same. The body gets them at 64 px, which changes how long it takes and not how much has to be kept. What the model takes
is the peak after the same calls on 200 of the photos.
"""
import os, resource, sys, tempfile, time, warnings
from pathlib import Path

warnings.simplefilter('ignore')
from common import need_weights, words
from bearclf.folder.look import class_of
from bearclf.practice.drawn import drawn_path
from bearclf.train.features import *
from fastai.vision.all import *


def folder(path, n, bears):
    for i in range(n):
        dest = path/class_of(bears[i % len(bears)])/f'{i}.jpg'
        dest.parent.mkdir(parents=True, exist_ok=True)
        dest.write_bytes(bears[i % len(bears)].read_bytes() + b'%d' % i)
    return path


def peak_mb(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024


class OneEpochOfTen(Callback):
    "Training stops after so many batches; by then the loader has all it needs in memory"
    def __init__(self, n): self.n = n
    def after_batch(self):
        if self.training and self.iter >= self.n: raise CancelFitException


def main(n=50_000, kinds=1000):
    need_weights()
    bears = sorted(drawn_path(n=kinds, size=128).glob('*/*.jpg'), key=lambda o: o.name)  # the classes by turns
    with tempfile.TemporaryDirectory() as d:
        os.environ['BEARCLF_CACHE'] = d + '/cache'
        small, large = folder(Path(d)/'small', 200, bears), folder(Path(d)/'large', int(n), bears)
        for path in small, large:
            t, learn = time.perf_counter(), precomputed_learner(path, 'squeezenet1_0', size=64)
            head, seconds = peak_mb(), time.perf_counter()-t
            learn.unfreeze()
            with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-5, cbs=OneEpochOfTen(300))
            photos = len(learn.dls.train_ds) + len(learn.dls.valid_ds)
            print(f'{path.name}: {photos} photos, precomputed_learner {head:.0f} MB ({seconds:.0f} s), '
                  f'then unfrozen {peak_mb():.0f} MB')


if __name__ == '__main__': main(50, 60) if '--smoke' in words(__doc__) else main(*sys.argv[1:])
