"The demo model knows drawn bears and real ones, and says what it has not seen; benchmarks/demo.py has all the figures"
import pytest
from PIL import Image

from bearclf.folder.look import class_of, find_photos
from bearclf.photo import read_photo
from bearclf.practice.drawn import draw_outlier, drawn_path
from bearclf.ship.predict import load_classifier


@pytest.fixture(scope='module')
def clf(demo_model): return load_classifier(demo_model)


def answers(clf, files):
    "Numbers of files that are named rightly, wrongly, and not at all"
    preds = [o for i in range(0, len(files), 32) for o in clf.many([read_photo(f) for f in files[i:i+32]])]
    right = sum(p.familiar and p.label == class_of(f) for f, p in zip(files, preds))
    refused = sum(not p.familiar for p in preds)
    return right, len(files) - right - refused, refused


@pytest.mark.parametrize('size', [128, 256])
def test_drawn_bears(clf, size):
    files = find_photos(drawn_path(150, size, 'fresh'))
    _, wrong, refused = answers(clf, files)
    assert wrong <= 2 and refused <= 10


def test_real_bears(clf, shared):
    files = find_photos(shared/'bears_unseen')[::4]
    right, _, _ = answers(clf, files)
    assert len(files) == 63 and right >= 60


def test_others_are_not_named(clf, shared):
    files = find_photos(shared/'others')[::4]
    assert answers(clf, files)[2] >= 49 and len(files) == 51


def test_what_is_no_bear_is_said(clf):
    pred = clf(draw_outlier('something else', 160))
    assert not pred.familiar and str(pred).startswith('nothing that I have seen; the nearest is ')


def test_blank_pictures_and_noise_are_not_named(clf):
    odd = [Image.new('RGB', (160, 120), o) for o in ('white', 'black', 'gray', 'saddlebrown')]
    assert not any(o.familiar for o in clf.many([*odd, Image.effect_noise((160, 120), 90).convert('RGB')]))
