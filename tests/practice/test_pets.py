"Cats and dogs of sixteen breeds: the same on each run, in the two layouts, and told apart by their names"
import csv, os, random, re
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image, ImageChops, ImageStat

from helpers import python
from bearclf.core import BearclfError
from bearclf.practice.pets import BREEDS, CATS, DOGS, dogs_cats_path, draw_dogs_cats, draw_pet, draw_pets, pets_path


def below(folder): return {o.relative_to(folder).as_posix(): o.read_bytes() for o in folder.rglob('*') if o.is_file()}


def test_the_breeds_bear_the_names_of_oxford():
    assert BREEDS == CATS+DOGS and len(set(BREEDS)) == len(BREEDS) >= 12
    assert all(o[0].isupper() for o in CATS) and all(o.islower() for o in DOGS)
    assert all(re.fullmatch(r'[A-Za-z]+(_[A-Za-z]+)*', o) for o in BREEDS)


@pytest.mark.parametrize('breed', BREEDS)
def test_each_photo_is_another_and_the_seed_alone_decides(breed):
    state, ims = random.getstate(), [draw_pet(breed, i, 48) for i in range(4)]
    assert random.getstate() == state and {(o.size, o.mode) for o in ims} == {((48, 48), 'RGB')}
    assert draw_pet(breed, 0, 48).tobytes() == ims[0].tobytes()
    apart = [ImageStat.Stat(ImageChops.difference(ims[i], ims[j])).mean for i in range(4) for j in range(i)]
    assert min(map(max, apart)) > 8, 'two photos look nearly alike'


def test_another_process_draws_the_same():
    code = "from hashlib import sha256; from bearclf.practice.pets import *; " \
           "print(sha256(b''.join(draw_pet(o, 'x', 32).tobytes() for o in BREEDS)).hexdigest())"
    assert python(code, PYTHONHASHSEED='1') == python(code, PYTHONHASHSEED='2')


def test_more_photos_are_the_same_and_some_more(tmp_path):
    few, many = draw_pets(tmp_path/'few', 16, 32), draw_pets(tmp_path/'many', 40, 32)
    few, many = below(few), below(many)
    assert {*few} == {f'{o}_1.jpg' for o in BREEDS} and len(many) == 40 and few.items() <= many.items()
    other = below(draw_pets(tmp_path/'other', 4, 32, seed=1, breeds=['pug', 'Persian']))
    assert {*other} == {'pug_1.jpg', 'pug_2.jpg', 'Persian_1.jpg', 'Persian_2.jpg'}
    assert other['pug_1.jpg'] != many['pug_1.jpg']
    few, many = below(draw_dogs_cats(tmp_path/'a', 20, 32, test=2)), below(draw_dogs_cats(tmp_path/'b', 40, 32, test=5))
    same = {o for o in few if o.startswith(('train', 'valid', 'test1'))}
    assert len(same) == 22 and all(few[o] == many[o] for o in same)


def test_sizes_by_lot(tmp_path):
    files = [*draw_pets(tmp_path/'pets', 16, (24, 40)).iterdir()]
    assert {Image.open(o).size for o in files} == {(24, 24), (40, 40)}


def test_the_layout_of_dogs_and_cats(tmp_path):
    folder = draw_dogs_cats(tmp_path/'dc', 60, 24, test=6)
    files = below(folder)
    assert {*os.listdir(folder)} == {'train', 'valid', 'sample', 'test1', 'truth.csv'}
    for part, n in ('train', 24), ('valid', 6):
        for kind in 'cat', 'dog':
            here = [o for o in files if o.startswith(f'{part}/{kind}s/')]
            assert len(here) == n and all(re.fullmatch(rf'{part}/{kind}s/{kind}\.\d+\.jpg', o) for o in here)
    labelled = [o for o in files if o.startswith(('train', 'valid'))]
    assert len({files[o] for o in labelled}) == 60, 'no photo is there twice'
    sample = [o for o in files if o.startswith('sample/')]
    folders = {f'sample/{p}/{k}' for p in ('train', 'valid') for k in ('cats', 'dogs')}
    assert {o.rsplit('/', 1)[0] for o in sample} == folders
    assert all(files[o] == files[o.removeprefix('sample/')] for o in sample) and len(sample) < 12
    assert sorted(os.listdir(folder/'test1')) == [f'{i}.jpg' for i in range(1, 7)]
    assert not {files[f'test1/{i}.jpg'] for i in range(1, 7)} & {files[o] for o in labelled}
    with open(folder/'truth.csv', encoding='utf-8') as f: truth = [*csv.DictReader(f)]
    assert [o['id'] for o in truth] == [*'123456'] and {o['label'] for o in truth} <= {'0', '1'}
    assert sorted(os.listdir(draw_dogs_cats(tmp_path/'none', 10, 24, test=0)/'test1')) == []


@pytest.mark.parametrize('f, wish, said', [
    (draw_pet, dict(breed='Pug', seed=1), "No breed called 'Pug'"),
    (draw_pet, dict(breed='pug', seed=1, size=True), 'size True'),
    (draw_pet, dict(breed=None, seed=1), 'No breed called None'), (draw_pets, dict(dest='x', n=1.5), '1.5 pets'),
    (draw_pets, dict(dest='x', breeds='pug'), 'as a list'), (draw_pets, dict(dest='x', breeds=[]), 'as a list'),
    (draw_pets, dict(dest='x', breeds=['pug', 'pug']), 'only once'),
    (draw_pets, dict(dest='x', size=[64, 0]), 'size 0'),
    (draw_pets, dict(dest=''), 'path is empty'), (draw_dogs_cats, dict(dest='x', n=9), '9 cats and dogs'),
    (draw_dogs_cats, dict(dest='x', test=None), 'test=None'), (draw_dogs_cats, dict(dest='mine'), 'not empty'),
    (draw_pets, dict(dest='mine/letter.txt'), 'is a file')])
def test_what_cannot_be_drawn(f, wish, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path/'mine').mkdir()
    (tmp_path/'mine/letter.txt').write_text('dear')
    with pytest.raises(BearclfError, match=re.escape(said)) as e: f(**wish)
    assert '\n' not in str(e.value) and below(tmp_path) == {'mine/letter.txt': b'dear'}


def test_nothing_is_left_of_half_a_folder(tmp_path, monkeypatch):
    import bearclf.practice.pets as pets
    drawn = []
    def breaks(*args):
        if len(drawn) == 3: raise OSError('no space left')
        drawn.append(args); return draw_pet(*args)
    monkeypatch.setattr(pets, 'draw_pet', breaks)
    with pytest.raises(OSError): draw_pets(tmp_path/'pets', 16, 24)
    assert [*tmp_path.iterdir()] == [] and len(drawn) == 3


def test_kept_ones_are_drawn_once(tmp_path, monkeypatch):
    monkeypatch.setenv('BEARCLF_CACHE', str(tmp_path))
    with ThreadPoolExecutor() as ex: got = {*ex.map(lambda _: pets_path(16, 24), range(3))}
    folder, = got
    file = folder/'pug_1.jpg'
    was = file.stat().st_mtime_ns
    assert pets_path(16, 24) == folder and file.stat().st_mtime_ns == was
    assert len({folder, pets_path(16, 32), pets_path(16, 24, 1), dogs_cats_path(10, 24)}) == 4


def test_a_pattern_for_the_heap(tmp_path):
    "Real Oxford folders hold .mat files beside the photos"
    from bearclf.train.data import labels_from_names, photo_dls
    folder = draw_pets(tmp_path/'pets', 12, 24, breeds=['saint_bernard', 'Russian_Blue'])
    (folder/'Abyssinian_100.mat').write_bytes(b'MATLAB')
    dls = photo_dls(folder, 24, get_y=labels_from_names(r'^(.+)_\d+\.jpg$'), num_workers=0)
    assert [*dls.vocab] == ['Russian_Blue', 'saint_bernard'] and len(dls.train_ds)+len(dls.valid_ds) == 12
