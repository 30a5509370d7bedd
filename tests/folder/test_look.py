"How a folder is read: what a person would expect of it, and what is said where it could be read in two ways"
import os, shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image

from bearclf.core import BearclfError
from bearclf.folder.look import check_folder, class_of, data_frame, find_photos
from bearclf.folder.verify import verify

NFD, NFC = 'за\u0438\u0306ц', 'за\u0439ц'


@pytest.fixture(scope='session')
def picture(tmp_path_factory):
    file = tmp_path_factory.mktemp('one')/'one.png'
    Image.new('RGB', (24, 24), 'brown').save(file)
    return file


def filled(top, picture, *files):
    "A folder with `picture` under each name; three times in a folder, which ends in /"
    for o in files:
        for name in [f'{o}{i}.png' for i in range(3)] if o.endswith('/') else [o]:
            (top/name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(picture, top/name)
    return top


LAYOUTS = {  # name -> files, photos of each class, what is said, what is not
    'plain': ('a/ b/', 'a3 b3', '', 'level ledge Not'),
    'three': ('a/ b/ c/', 'a3 b3 c3', '', 'level'),
    'same names below': ('a/in/ a/out/ b/in/ b/out/', 'a6 b6', 'a and b hold sub-folders (in, out) level=2', ''),
    'a year below': ('a/2024/ b/2024/', 'a3 b3', 'level=2', ''),
    'beside and below': ('a/ a/more/ b/', 'a6 b3', 'a holds sub-folders (more)', ''),
    'deep below one': ('a/x/y/z/ b/', 'a3 b3', 'a holds sub-folders (x) level=2', ''),
    'years above': ('2019/a/ 2019/b/ 2020/a/ 2020/b/', '2019:6 2020:6', 'sub-folders (a, b) level=2', ''),
    'kinds above': ('pets/a/ pets/b/ plants/c/ plants/d/', 'pets6 plants6', 'sub-folders (a, b, c, d) level=2', ''),
    'wrapped': ('photos/a/ photos/b/', 'a3 b3', 'classes are the folders in photos level=1', ''),
    'wrapped twice': ('data/photos/a/ data/photos/b/', 'a3 b3', 'the folders in data/photos level=1', ''),
    'wrapped, with more below': ('p/a/in/ p/a/out/ p/b/in/', 'a6 b3', 'folders in p (in, out) level=3', ''),
    'wrapped, loose beside': ('photos/a/ photos/b/ x.png', 'a3 b3', 'beside the class folders x.png', ''),
    'wrapped, others beside': ('photos/a/ photos/b/ c/', 'photos6 c3', 'photos holds sub-folders (a, b) level=2', ''),
    'loose in what wraps': ('photos/ photos/a/ photos/b/', 'photos9', 'photos holds sub-folders (a, b) level=2', ''),
    'loose in the top': ('a/ b/ x.png', 'a3 b3', 'beside the class folders, not in one: x.png', ''),
    'one class': ('a/', 'a3', '', 'level'),
    'divided': ('train/a/ train/b/ valid/a/ valid/b/', 'a6 b6', 'Divided into train and valid', 'level'),
    'in three': ('train/a/ train/b/ valid/a/ test/b/', 'a6 b6', 'Divided into train, test and valid', ''),
    'in capitals': ('TRAIN/a/ TRAIN/b/ Val/a/ Val/b/', 'a6 b6', 'Divided into TRAIN and Val', ''),
    'in other words': ('training/a/ training/b/ testing/a/ testing/b/', 'a6 b6', 'into training and testing', ''),
    'dev': ('trainset/a/ trainset/b/ dev_images/a/ dev_images/b/', 'a6 b6', 'Divided into trainset and dev_images', ''),
    'with a year': ('train2017/a/ train2017/b/ val2017/a/', 'a6 b3', 'Divided into train2017 and val2017', ''),
    'with a name': ('x_train/a/ x_train/b/ x_test/a/ x_test/b/', 'a6 b6', 'Divided into x_train and x_test', ''),
    'twice as in a zip': ('training_set/training_set/a/ training_set/training_set/b/ test_set/test_set/a/ '
                          'test_set/test_set/b/', 'a6 b6', 'Divided into training_set and test_set', ''),
    'divided and wrapped': ('data/train/a/ data/train/b/ data/test/a/ data/test/b/', 'a6 b6', 'Divided', ''),
    'divided, more below': ('train/a/in/ train/b/in/ valid/a/in/ valid/b/out/', 'a6 b6', 'Divided level=3', ''),
    'divided, others beside': ('train/a/ train/b/ valid/a/ x/', 'a6 b3', 'not in one: x/0.png', ''),
    'train alone': ('train/a/ train/b/', 'a3 b3', 'the folders in train', 'Divided'),
    'trains': ('train/ plane/', 'plane3 train3', '', 'Divided'),
    'stations': ('train_station/in/ test_tube/in/', 'test_tube3 train_station3', 'level=2', 'Divided'),
    'two cases': ('Cats/ cats/', 'Cats3 cats3', "'Cats' and 'cats' are 2 classes", ''),
    'a space': ('dogs/ dogs\u00a0/ cats/', 'cats3 dogs3 dogs\u00a0:3', 'are 2 classes', ''),
    'a dash': ('hot-dog/ hot_dog/ cats/', 'cats3 hot-dog3 hot_dog3', "'hot-dog' and 'hot_dog' are 2 classes", ''),
    'unseen signs': ('cats/ cats\u200b/ dogs_/ dogs/', 'cats3 cats\u200b:3 dogs3 dogs_:3', "'dogs' and 'dogs_'", ''),
    'not alike': ('C/ C++/ C#/ -1/ 1/ 1.5/ 15/ 👍/ 👎/', '-1:3 1:3 1.5:3 15:3 C3 C#3 C++3 👍3 👎3', '', 'classes.'),
    'one to test by': ('cats/ dogs/ Test/', 'Test3 cats3 dogs3', 'Test is taken for a class', 'Divided'),
    'two spellings': (f'{NFC}/ {NFD}/ кот/', f'{NFC}6 кот3', f"{NFC!r} is the name of 2 folders", 'put'),
    'a NAS': ('a/ b/ a/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg @eaDir/x.jpg/SYNOPHOTO_THUMB_S.jpg', 'a3 b3',
              '@eaDir (2)', ''),
    'a stick from Windows': ('a/ b/ $RECYCLE.BIN/S-1-5/x.jpg FOUND.000/x.jpg a/Thumbs.db a/desktop.ini', 'a3 b3',
                             '$RECYCLE.BIN (1) FOUND.000 (1) Thumbs.db (1) desktop.ini (1)', ''),
    'a zip from a Mac': ('a/ b/ __MACOSX/a/._0.png a/._0.png a/.DS_Store', 'a3 b3', '._* (1) __MACOSX (1)', 'DS_Store'),
    'side-cars': ('a/ b/ a/0.xmp a/0.png.xmp a/1.THM b/2.aae', 'a3 b3', '*.xmp (2) *.thm (1) *.aae (1)', ''),
    'thumbnails': ('a/ b/ .thumbnails/x.jpg a/.picasaoriginals/0.png Holiday.lrdata/x/y.jpg', 'a3 b3',
                   '.thumbnails (1) .picasaoriginals (1) Holiday.lrdata (1)', ''),
}


@pytest.mark.parametrize('name', LAYOUTS)
def test_a_folder_is_read_as_a_person_would(tmp_path, picture, name):
    files, expected, said, unsaid = LAYOUTS[name]
    report = check_folder(filled(tmp_path/'top', picture, *files.split(' ')))
    expected = dict((o[:-1].rstrip(':'), int(o[-1])) for o in expected.split(' '))
    assert report.counts == expected and len(report.photos) == sum(expected.values())
    for o in said.split(' '): assert o in str(report), str(report)
    for o in unsaid.split(' '): assert not o or o not in ' '.join(report.notes), str(report)


@pytest.mark.parametrize('files, level, expected', [
    ('a/in/ a/out/ b/in/', 2, {'in': 6, 'out': 3}), ('photos/a/ photos/b/', 1, {'photos': 6}),
    ('pets/a/ pets/b/ plants/c/', 2, {'a': 3, 'b': 3, 'c': 3}),
    ('train/a/ train/b/ valid/a/', 1, {'train': 6, 'valid': 3}),
    ('train/a/in/ train/b/in/ valid/a/in/', 2, {'a': 6, 'b': 3}), ('a/ b/in/', 2, {'in': 3})])
def test_the_other_reading_can_be_had(tmp_path, picture, files, level, expected):
    path = filled(tmp_path/'top', picture, *files.split())
    assert check_folder(path, level=level).counts == expected
    assert len(find_photos(path, level=level)) == sum(expected.values())


@pytest.mark.parametrize('level', [0, -1, 1.5, 'two'])
def test_a_level_that_is_none(tmp_path, level):
    with pytest.raises(BearclfError, match='is no level of folders'): check_folder(tmp_path, level=level)


def test_a_level_that_is_too_deep(tmp_path, picture):
    path = filled(tmp_path/'top', picture, 'a/', 'b/')
    with pytest.raises(BearclfError, match='No photo in .* 2 levels down'): check_folder(path, level=2)


def test_classes_without_a_photo_are_named(tmp_path, picture):
    path = filled(tmp_path/'top', picture, 'a/', 'b/')
    for o in 'empty', 'broken': (path/o).mkdir()
    for i in range(2): (path/'broken'/f'{i}.jpg').write_text('403 Forbidden')
    notes = check_folder(path).notes
    assert notes == ['No class, as there is no photo in it: broken (2 files that cannot be read).',
                     'No class, as there is no photo in it: empty (empty).']


def test_what_cannot_be_read_still_tells_how_the_folder_is_made(tmp_path, picture):
    "Of photos/a and photos/b, all of b are damaged: a class is lost, and photos is not one"
    path = filled(tmp_path/'top', picture, 'photos/a/')
    (path/'photos/b').mkdir()
    (path/'photos/b/1.jpg').write_bytes(b'\xff\xd8\xff')
    report = check_folder(path)
    assert report.counts == {'a': 3} and 'photos/b (1 file that cannot be read)' in str(report)


@pytest.mark.parametrize('to', ['elsewhere', 'top', 'top/a', 'nowhere'])
def test_a_folder_that_is_a_link_is_named(tmp_path, picture, to):
    path = filled(tmp_path/'top', picture, 'a/', 'b/')
    filled(tmp_path/'elsewhere', picture, 'c/')
    try: (path/'linked').symlink_to(tmp_path/to)
    except OSError: pytest.skip('links cannot be made here')
    report = check_folder(path)
    assert report.counts == {'a': 3, 'b': 3} and 'linked' in str(report)
    if to != 'nowhere':
        for said in str(report), str(verify(path)): assert 'Not looked into, as it is a link: linked.' in said


def test_a_folder_that_may_not_be_opened_is_named(tmp_path, picture, monkeypatch):
    path, scandir = filled(tmp_path/'top', picture, 'a/', 'b/', 'c/'), os.scandir
    def closed(o):
        if str(o).endswith('c'): raise PermissionError(13, 'Permission denied', str(o))
        return scandir(o)
    monkeypatch.setattr(os, 'scandir', closed)
    assert 'Not looked into, as this user may not open it: c.' in str(check_folder(path))


def test_the_current_folder(tmp_path, picture, monkeypatch):
    filled(tmp_path/'top', picture, 'a/in/', 'b/')
    monkeypatch.chdir(tmp_path/'top')
    for path in '.', Path(), tmp_path/'top': assert check_folder(path).counts == {'a': 3, 'b': 3}


def test_very_many_classes_are_not_all_listed(tmp_path, picture):
    "Forty are, as in the course's pets; of more, the largest and the smallest"
    path = filled(tmp_path/'top', picture, *[f'class{i:03}/0.png' for i in range(120)], 'much/', 'more/')
    rows = str(check_folder(path)).split('\n')
    assert len(rows) == 12 and '122 classes' in rows[0] and 'much' in rows[1] + rows[2] and '112 others' in rows[6]
    for o in list(path.iterdir())[:-40]: shutil.rmtree(o)
    assert len(str(check_folder(path)).split('\n')) == 41


names = st.text('abcdxyzкотñé', min_size=1, max_size=5).map(str.casefold)
words = st.sampled_from([('train', 'valid'), ('Training', 'Testing'), ('TRAIN', 'VAL'), ('train_set', 'dev_set')])

@st.composite
def layouts(draw):
    "Names of files, the photos of each class, and what is to be left out"
    classes = draw(st.lists(names, min_size=2, max_size=4, unique=True))
    parts = draw(st.none() | words) or ('',)
    wraps = draw(st.lists(names, max_size=2))
    inner = draw(st.lists(names, min_size=1, max_size=3, unique=True)) if draw(st.booleans()) else ['']
    files, counts = [], Counter()
    for part in parts:
        for c in classes:
            for o in inner if draw(st.booleans()) else ['']:
                files.append('/'.join(k for k in (*wraps, part, c, o, '0.png') if k))
                counts[c] += 1
    junk = draw(st.lists(st.sampled_from(['@eaDir/x/SYNOPHOTO_THUMB_M.jpg', '$Recycle.Bin/x.png', '__MACOSX/x/y.png',
                                          '.hidden/x.png', 'Thumbs.db', '._0.png']), max_size=3, unique=True))
    where = draw(st.sampled_from(files)).rsplit('/', 1)[0]
    return files + [f'{o}' if draw(st.booleans()) else f'{where}/{o}' for o in junk], dict(sorted(counts.items()))


def read_right(tmp_path_factory, picture, layout):
    files, counts = layout
    report = check_folder(filled(tmp_path_factory.mktemp('l')/'top', picture, *files))
    assert report.counts == counts, str(report)
    assert len(report.left_out) == 0


slow = dict(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

@settings(max_examples=60, derandomize=True, **slow)
@given(layout=layouts())
def test_any_layout(tmp_path_factory, picture, layout): read_right(tmp_path_factory, picture, layout)


@pytest.mark.exhaustive
@settings(max_examples=2000, **slow)
@given(layout=layouts())
def test_any_layout_of_many(tmp_path_factory, picture, layout): read_right(tmp_path_factory, picture, layout)


# --- all who read a folder read it alike

def coloured(top, *folders, n=12):
    "Folders of small photos, those of dogs in a colour of their own"
    for k, folder in enumerate(folders):
        (top/folder).mkdir(parents=True)
        for i in range(n):
            colour = (20, 200, 10*i) if 'dog' in folder else (200, 30, 10*i)
            im = Image.effect_noise((40, 40), 60 + i).convert('RGB')
            Image.blend(im, Image.new('RGB', (40, 40), colour), .5).save(top/folder/f'{k}{i}.png')
    return top


NESTED = 'cats/in', 'cats/out', 'dogs/in', 'dogs/out'


@pytest.fixture(scope='module')
def nested(tmp_path_factory): return coloured(tmp_path_factory.mktemp('nested')/'pets', *NESTED)


@pytest.fixture(scope='module')
def learn(nested):
    from bearclf.train.features import precomputed_learner
    return precomputed_learner(nested, 'efficientnet_lite0')


def test_training_and_its_export(nested, learn, tmp_path):
    from bearclf.ship.export import export_classifier
    from bearclf.ship.predict import evaluate, load_classifier
    ds = learn.dls.train_ds
    assert list(learn.dls.vocab) == ['cats', 'dogs']
    assert {(o.parts[-3], learn.dls.vocab[y]) for o, (_, y) in zip(ds.items, ds)} == {(o, o) for o in ('cats', 'dogs')}
    export_classifier(learn, tmp_path)
    assert str(nested).encode() not in (tmp_path/'export.pkl').read_bytes()
    clf = load_classifier(tmp_path)
    assert clf.classes == ['cats', 'dogs'] and evaluate(clf, nested).n == 48


def test_all_say_how_they_have_read(nested, learn, tmp_path, capsys):
    from bearclf.clean.issues import find_issues
    from bearclf.clean.loop import CleaningLoop
    from bearclf.ship.predict import Classifier, evaluate
    from bearclf.train.data import photo_dls
    words = 'cats and dogs hold sub-folders (in, out), whose photos belong to them; level=2 makes these the classes.'
    path = Path(shutil.copytree(nested, tmp_path/'pets'))
    for f in photo_dls, lambda o: find_issues(learn, o), lambda o: CleaningLoop(learn, o):
        f(path)
        assert words in capsys.readouterr().out
    for o in check_folder(path), verify(path), evaluate(Classifier(learn, {}), path): assert words in str(o)


def test_the_level_goes_along(nested, tmp_path):
    from bearclf.clean.issues import find_issues
    from bearclf.train.features import precomputed_learner
    deep = precomputed_learner(nested, 'efficientnet_lite0', level=2)
    assert list(deep.dls.vocab) == ['in', 'out'] and {*find_issues(deep).label} == {'in', 'out'}


def test_issues_decisions_and_the_loop(nested, learn, tmp_path):
    from bearclf.clean.loop import CleaningLoop
    from bearclf.folder.moves import KEEP, undo
    path = Path(shutil.copytree(nested, tmp_path/'pets'))
    loop = CleaningLoop(learn, path)
    assert {*loop.issues.label} == {'cats', 'dogs'}
    photo, other = sorted(path.glob('cats/in/*.png'))[:2]
    loop.decide(photo, 'dogs')
    loop.decide(other, 'cats')
    assert loop.decisions.pending == {photo: 'dogs', other: KEEP}
    loop.apply()
    assert (path/'dogs'/photo.name).is_file() and not photo.exists()
    assert other.is_file() and not (path/'cats/dogs').exists()
    undo(path)
    assert photo.is_file() and loop.decisions.pending[photo] == 'dogs'


def test_a_decision_in_what_wraps_or_divides(tmp_path):
    from bearclf.clean.decisions import Decisions
    for top in 'photos/', 'train/', '':
        more = ['valid/cats', 'valid/dogs']*(top == 'train/')
        path = coloured(tmp_path/(top[:1] or 'x')/'all', f'{top}cats', f'{top}dogs', *more, n=2)
        photo = sorted((path/top/'cats').glob('*.png'))[0]
        decisions = Decisions(path)
        decisions.decide(photo, 'dogs')
        decisions.apply()
        assert (path/top/'dogs'/photo.name).is_file()


def test_photos_of_one_class_in_two_folders_are_copies(tmp_path):
    path = coloured(tmp_path/'pets', *NESTED, n=2)
    shutil.copy(path/'cats/in/00.png', path/'cats/out/copy.png')
    shutil.copy(path/'cats/in/01.png', path/'dogs/out/copy.png')
    said = {o.file: o.finding for o in verify(path).table.itertuples()}
    assert said['cats/out/copy.png'] == 'duplicate' and said['dogs/out/copy.png'] == 'same photo in two classes'


# --- where the photos of a learner are

def chapter(path, **kw):
    "As the book writes it, without a path for the `DataLoaders`"
    from fastai.vision.all import (CategoryBlock, DataBlock, ImageBlock, Learner, RandomSplitter, Resize, error_rate,
                                   get_image_files, nn, parent_label, vision_learner, xresnet18)
    bears = DataBlock(blocks=(ImageBlock, CategoryBlock), get_items=get_image_files, get_y=parent_label,
                      splitter=RandomSplitter(seed=1), item_tfms=Resize(64))
    return vision_learner(bears.dataloaders(path, bs=8, num_workers=0, **kw), xresnet18, pretrained=False)


def test_a_learner_without_a_path_of_its_own(tmp_path, monkeypatch):
    "Its `path` is the current folder, and in that lie someone's holidays"
    from bearclf.clean.issues import find_issues
    from bearclf.clean.loop import CleaningLoop
    home = tmp_path/'home'
    coloured(home, 'cheerful/days', 'dances/nights', n=3)
    path = coloured(home/'course/bears', 'cats', 'dogs')
    monkeypatch.chdir(home)
    for o in path, Path('course/bears'):
        learn = chapter(o)
        assert str(learn.dls.path) == '.' and CleaningLoop(learn).path == path
        assert {o.parent.parent for o in find_issues(learn).photo} == {path}


def test_photos_that_have_only_the_home_in_common(tmp_path, monkeypatch):
    from bearclf.clean.issues import find_issues
    from bearclf.clean.loop import CleaningLoop
    coloured(tmp_path, 'a/cats', 'b/dogs')
    learn = chapter(tmp_path)
    monkeypatch.setattr(Path, 'home', lambda: tmp_path/'user')
    for f in CleaningLoop, find_issues:
        with pytest.raises(BearclfError, match='have only .* in common.*as path'): f(learn)
    assert len(find_issues(learn, tmp_path)) == 24


def test_photos_that_are_rows_of_a_table(tmp_path):
    "Their labels are those of the folders, or a sentence says that they are not"
    import pandas as pd
    from bearclf.clean.loop import CleaningLoop
    from fastai.vision.all import ImageDataLoaders, Resize, vision_learner, xresnet18
    path = coloured(tmp_path/'pets', 'cats', 'dogs')
    files = [o.relative_to(path) for o in sorted(path.rglob('*.png'))]
    table = pd.DataFrame(dict(name=map(str, files), label=[o.parts[0] for o in files], other=['x', 'y']*12))
    def learner(**kw):
        dls = ImageDataLoaders.from_df(table, path, item_tfms=Resize(64), bs=8, num_workers=0, **kw)
        return vision_learner(dls, xresnet18, pretrained=False)
    assert CleaningLoop(learner()).path == path
    with pytest.raises(BearclfError, match='are not the folders of'): CleaningLoop(learner(label_col='other'))



def test_a_table_takes_names_that_are_no_unicode():
    "pandas keeps text in pyarrow where that is installed, as on Colab and in CI, and pyarrow takes Unicode alone"
    table = data_frame([('b\udcff.jpg', None), ('кот.jpg', 'x')], columns=['photo', 'to'])
    assert table.photo.tolist() == ['b\udcff.jpg', 'кот.jpg'] and table.to.isna().tolist() == [True, False]
