"Real photos with their real mess, and real ImageNet weights"
import json, os, subprocess, sysconfig
from pathlib import Path

import pytest

bearclf = Path(sysconfig.get_path('scripts'))/'bearclf'


def run(shared, *args):
    res = subprocess.run([bearclf, *map(str, args)], capture_output=True, text=True, env=os.environ | {'TORCH_HOME': str(shared/'torch')})
    assert res.returncode == 0, res.stderr[-3000:]
    return res.stdout


def test_every_photo_is_found_and_the_rest_is_named(shared):
    from bearclf.data import check_folder, get_image_files
    report = check_folder(shared/'bears')
    files = [o for o in (shared/'bears').rglob('*') if o.is_file()]
    assert len(files) == 168 and len(report.photos) == 162
    assert {o.name for o in report.left_out} == {o.name for o in files if o.read_bytes()[:1] not in b'\xff\x89RG'}
    assert len(get_image_files(shared/'bears')) == 126


@pytest.fixture(scope='module')
def model(shared, tmp_path_factory):
    out = tmp_path_factory.mktemp('real')
    text = run(shared, 'train', shared/'bears', '--arch', 'squeezenet1_0', '--epochs', 4, '--out', out)
    return out, text


def test_training_on_the_mess(model):
    out, text = model
    assert '162 photos of 3 classes' in text and '00000123.jpg?itok=COe4LoKt' in text and '6 files left out' in text
    assert json.loads((out/'export.json').read_text())['n_photos'] == 162


def test_photos_it_never_saw(shared, model):
    found = json.loads(run(shared, 'evaluate', model[0], shared/'bears_unseen', '--json'))
    assert found['n'] == 252 and found['error_rate'] < 0.08, found
