"Which photos judge: copies on one side, each class on both, the same ones when others come"
import random, shutil, warnings

import pytest
from PIL import Image
from hypothesis import given, strategies as st

with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # fastai's import says that torch.jit.script is deprecated
    from fastai.vision.all import DataBlock, CategoryBlock, ImageBlock, RandomSplitter, RegressionBlock, np
from bearclf.core import BearclfError
from bearclf.folder.look import check_folder, class_of, find_photos
from bearclf.folder.copies import MARKS
from bearclf.photo import read_photo
from bearclf.practice.drawn import draw_bear, draw_bears
from bearclf.train.data import PhotoBlock, PhotoSplitter, _share_out, parts_of, photo_block, photo_dls, scenes_by_time
from bearclf.train.features import photo_views, precomputed_learner, scenes_by_look
from bearclf.train.learner import _training_key
from bearclf.train.interpret import wilson_interval


def dls_of(path, **kw): return photo_dls(path, size=32, num_workers=0, **kw)


def valid_names(dls): return {o.name for o in dls.valid_ds.items}


def saved_again(photo, dest, i, seed=0):
    "The same photo, a little smaller and with fewer details, under a name that does not tell"
    rng = random.Random(f'{photo.name} {i} {seed}')
    im = read_photo(photo)
    im = im.resize([round(o*rng.uniform(.8, 1)) for o in im.size])
    im.save(dest/f'{rng.getrandbits(40):010x}.jpg', quality=rng.randint(70, 95))


def of_random_labels(path, n, times, seed):
    "`n` bears, `times` times each, in class folders by lot; file name -> number of the bear"
    rng, source = random.Random(seed), path/'source'
    draw_bears(source, n, 96, seed=f'split {seed}')
    bear = {}
    for k in 'abc': (path/'all'/k).mkdir(parents=True)
    for i, o in enumerate(find_photos(source)):
        dest = path/'all'/'abc'[rng.randrange(3)]
        for j in range(times):
            before = {*dest.iterdir()}
            saved_again(o, dest, j)
            bear |= {o.name: i for o in {*dest.iterdir()} - before}
    return path/'all', bear


@pytest.fixture(scope='module')
def four_times(tmp_path_factory): return of_random_labels(tmp_path_factory.mktemp('four'), 45, 4, 1)


def test_copies_are_on_one_side(four_times):
    path, bear = four_times
    dls = dls_of(path)
    sides = [{bear[o.name] for o in ds.items} for ds in (dls.train_ds, dls.valid_ds)]
    assert not sides[0] & sides[1] and len(dls.valid_ds) >= 24
    assert {o.parent.name for o in dls.valid_ds.items} == {*'abc'}


def test_four_copies_of_each_photo_teach_nothing_about_labels_by_lot(four_times):
    learn = precomputed_learner(four_times[0], 'efficientnet_lite0', 64, num_workers=0)
    with learn.no_bar(), learn.no_logging(): wrong, n = learn.validate()[1], len(learn.dls.valid_ds)/4
    low, high = wilson_interval(round(wrong*n), round(n))  # of so many bears
    assert low <= 2/3 <= high


def test_each_class_is_on_both_sides(tmp_path):
    for k, n in dict(black=30, grizzly=30, teddy=2).items():
        (tmp_path/k).mkdir()
        for i in range(n): draw_bear(k, i, 48).save(tmp_path/k/f'{i}.png')
    for seed in range(20):
        dls = dls_of(tmp_path, seed=seed)
        of = lambda ds: [sum(o.parent.name == k for o in ds.items) for k in dls.vocab]
        assert of(dls.valid_ds) == [6, 6, 1] and of(dls.train_ds) == [24, 24, 1]


def test_others_that_come_and_new_names_change_little(tmp_path):
    draw_bears(tmp_path/'a', 120, 48, seed='stable')
    before = valid_names(dls_of(tmp_path/'a'))
    assert before == valid_names(dls_of(tmp_path/'a')) != valid_names(dls_of(tmp_path/'a', seed=1))
    draw_bears(tmp_path/'more', 12, 48, seed='others')
    for o in find_photos(tmp_path/'more'): shutil.copy(o, tmp_path/'a'/class_of(o)/f'new {o.name}')
    after = {o for o in valid_names(dls_of(tmp_path/'a')) if not o.startswith('new ')}
    assert len(before ^ after) <= 6  # by lot it would be 38 of 120
    for i, o in enumerate(find_photos(tmp_path/'a')): o.rename(o.with_name(f'{o.stem}#{1000 - i}{o.suffix}'))
    renamed = {o.partition('#')[0] for o in valid_names(dls_of(tmp_path/'a'))}
    assert {o for o in renamed if not o.startswith('new ')} == {o.rpartition('.')[0] for o in after}


def test_a_block_splits_as_photo_dls_does(tmp_path):
    draw_bears(tmp_path/'a', 30, 48)
    block = photo_block(32).dataloaders(tmp_path/'a', num_workers=0)
    assert valid_names(block) == valid_names(dls_of(tmp_path/'a'))
    assert valid_names(dls_of(tmp_path/'a', splitter=RandomSplitter(seed=3))) != valid_names(block)


def test_each_photo_judges_once(four_times):
    path, bear = four_times
    report = check_folder(path, measures=MARKS)
    parts = parts_of(report)
    assert {*parts} == {*range(5)}
    assert all(len({parts[i] for i, o in enumerate(report.photos) if bear[o.name] == k}) == 1 for k in range(45))
    first = {o.name for o, part in zip(report.photos, parts) if part == 0}
    assert first == valid_names(dls_of(path))


def test_a_class_of_one_photo_is_named_and_one_of_copies_is_divided(tmp_path, capsys):
    for k in ('one', 'many'): (tmp_path/k).mkdir()
    for i in range(8): draw_bear('teddy', i, 48).save(tmp_path/'many'/f'{i}.png')
    draw_bear('black', 0, 48).save(tmp_path/'one'/'0.png')
    with pytest.raises(BearclfError, match="'one' has only one photo"): dls_of(tmp_path)
    for i in range(3): shutil.copy(tmp_path/'one'/'0.png', tmp_path/'one'/f'copy {i}.png')
    dls = dls_of(tmp_path)
    assert "All 4 photos of 'one' are one photo or one scene" in capsys.readouterr().out
    assert {o.parent.name for o in dls.valid_ds.items} == {'one', 'many'}


def by_bear(o): return o.stem.split('_')[0]


@pytest.mark.parametrize('groups', [by_bear, r'^(\d+)_', dict])
def test_scenes_are_on_one_side(tmp_path, groups):
    for k in ('black', 'teddy'):
        (tmp_path/k).mkdir()
        for i in range(24): draw_bear(k, i, 48).save(tmp_path/k/f'{i//3}_{i}.png')
    if groups is dict: groups = {str(o): f'{class_of(o)} {by_bear(o)}' for o in find_photos(tmp_path)}
    dls = dls_of(tmp_path, groups=groups)
    sides = [{(by_bear(o), by_bear(o)) for o in ds.items} for ds in (dls.train_ds, dls.valid_ds)]
    if callable(groups) or isinstance(groups, str): assert not sides[0] & sides[1]
    else: assert not {groups[str(o)] for o in dls.train_ds.items} & {groups[str(o)] for o in dls.valid_ds.items}
    assert len(dls.valid_ds)


@pytest.mark.parametrize('groups', ['no brackets', '(', 3])
def test_groups_that_say_nothing_are_one_sentence(tmp_path, groups):
    draw_bears(tmp_path/'a', 12, 32)
    words = 'does not say which photos belong together'
    with pytest.raises(BearclfError, match=words): dls_of(tmp_path/'a', groups=groups)


def test_groups_beside_a_splitter_are_one_sentence(tmp_path):
    draw_bears(tmp_path/'a', 12, 32)
    with pytest.raises(BearclfError, match='groups'): dls_of(tmp_path/'a', groups=by_bear, splitter=RandomSplitter())


def test_numbers_and_rows_are_split_too(tmp_path):
    draw_bears(tmp_path/'a', 20, 32)
    dls = dls_of(tmp_path/'a', get_y=lambda o: float(len(o.name)), blocks=(PhotoBlock, RegressionBlock))
    assert len(dls.valid_ds) == 4
    rows = [dict(file=o, y='x' if i%2 else 'y') for i, o in enumerate(find_photos(tmp_path/'a'))]
    block = DataBlock(blocks=(ImageBlock, CategoryBlock), get_x=lambda o: o['file'], get_y=lambda o: o['y'],
                      splitter=PhotoSplitter())
    assert [*map(len, block.datasets(rows).splits)] == [16, 4]


def test_scenes_by_time_are_of_one_camera(tmp_path):
    minutes = dict(a=0, b=4, c=8, d=30, e=31)
    for name, minute in minutes.items():
        exif = Image.Exif()
        exif[0x0110] = 'one camera' if name != 'e' else 'another'
        exif.get_ifd(0x8769)[0x9003] = f'2026:05:01 10:{minute:02}:00'
        draw_bear('teddy', minute, 48).save(tmp_path/f'{name}.jpg', exif=exif)
    draw_bear('teddy', 99, 48).save(tmp_path/'no time.jpg')
    (tmp_path/'bad time.jpg').write_bytes((tmp_path/'a.jpg').read_bytes().replace(b'2026:05:01', b'2026:55:71'))
    photos = sorted(tmp_path.iterdir())
    said = {o.stem: scene for o, scene in scenes_by_time(photos).items()}
    assert said.keys() == minutes.keys()
    assert said['a'] == said['b'] == said['c'] and len({*said.values()}) == 3
    assert len({*scenes_by_time(photos, minutes=3).values()}) == 5


@pytest.fixture(scope='module')
def shots(tmp_path_factory):
    "Three shots each of 60 bears, named by the bear"
    path = tmp_path_factory.mktemp('shots')
    draw_bears(path/'bears', 60, 128, seed='shots')
    for o in find_photos(path/'bears'):
        (path/'shots'/class_of(o)).mkdir(parents=True, exist_ok=True)
        for i, im in enumerate(photo_views(read_photo(o))): im.save(path/'shots'/class_of(o)/f'{o.stem}_{i}.jpg')
    return path


def test_a_learner_of_other_scenes_is_another(tmp_path):
    draw_bears(tmp_path/'a', 12, 32)
    scenes = None, lambda o: o.stem[-1], lambda o: o.stem[-2], by_bear
    assert len({_training_key(tmp_path/'a', dict(groups=o)) for o in scenes}) == 4


WARNS = 'are far nearer to one that was learned from'


def test_scenes_on_both_sides_are_told(shots, capsys):
    learn = precomputed_learner(shots/'shots', 'efficientnet_lite0', num_workers=0)
    assert WARNS in capsys.readouterr().out
    scenes = scenes_by_look(learn)
    for groups in scenes, r'^(.+)_\d':
        learn = precomputed_learner(shots/'shots', 'efficientnet_lite0', num_workers=0, groups=groups)
        assert WARNS not in capsys.readouterr().out
    together = [scenes[a] == scenes[b] for a in scenes for b in scenes if a < b and by_bear(a) == by_bear(b)]
    assert np.mean(together) > .8


@pytest.mark.parametrize('n, size', [(45, 64), (60, 64), (90, 96)])
def test_single_photos_are_no_scenes(tmp_path, capsys, n, size):
    draw_bears(tmp_path/'a', n, size, seed='single')
    precomputed_learner(tmp_path/'a', 'efficientnet_lite0', 64, num_workers=0)
    assert WARNS not in capsys.readouterr().out


@given(st.lists(st.integers(1, 6), min_size=2, max_size=30), st.sampled_from([.1, .2, .25, .3, .5]))
def test_turns_share_out_all_photos(sizes, pct):
    ends = np.cumsum(sizes)
    groups = [list(range(b - n, b)) for n, b in zip(sizes, ends)]
    parts = np.full(ends[-1], -1)
    _share_out(groups, pct, parts)
    assert (parts >= 0).all() and (parts == 0).any() and (parts > 0).any()
    assert all(len({parts[i] for i in o}) == 1 for o in groups)
    smallest = [n for n in sizes if n <= max(1, int(pct*ends[-1] + 1e-9))]
    assert (parts == 0).sum() <= (max(1, int(pct*ends[-1] + 1e-9)) if smallest else max(sizes))
