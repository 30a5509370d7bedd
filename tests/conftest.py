import os
from pathlib import Path

import pytest

from bearclf.folder.look import class_of
from bearclf.practice.drawn import draw_bears
from bearclf.ship import predict

SHARED = Path(__file__).resolve().parents[2]/'shared'


@pytest.fixture(scope='session')
def demo_model():
    "A folder with the export.pkl of a model of the drawn bears"
    return predict.demo_model()


@pytest.fixture(scope='session')
def fresh_folder(tmp_path_factory):
    "Class folders of 300 drawn bears that no model has trained on"
    path = tmp_path_factory.mktemp('fresh')/'bears'
    draw_bears(path, n=300, size=128, seed='unseen')
    return path


@pytest.fixture(scope='session')
def fresh_bears(fresh_folder, demo_model):
    """Class -> files of drawn bears that no model has trained on, and that the demo model knows.

    They test the page and the command. How often the model is right is tested on all of `fresh_folder`."""
    clf, files = predict.load_classifier(demo_model), sorted(fresh_folder.glob('*/*.jpg'))
    known = {c: [o for o in [o for o in files if class_of(o) == c][:9] if clf(o).label == c][:5] for c in ('black', 'grizzly', 'teddy')}
    assert all(len(o) == 5 for o in known.values())
    return known


@pytest.fixture(scope='session')
def shared():
    "Real photos and ImageNet weights beside the checkout; who has none skips these tests, unless BEARCLF_NEEDS_SHARED says otherwise"
    if SHARED.is_dir(): return SHARED
    if os.environ.get('BEARCLF_NEEDS_SHARED'): pytest.fail(f'there is no folder {SHARED}')
    pytest.skip(f'the real photos are not here ({SHARED})')
