"What is found in a folder: wrong labels, copies, outliers; and what is said of odd folders"
import os, shutil

import numpy as np
import pytest
from PIL import Image
from cleanlab.outlier import OutOfDistribution
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_info

from bearclf.clean import issues
from bearclf.photo import forget
from bearclf.core import BearclfError
from bearclf.folder.look import class_of
from bearclf.folder.look import find_photos
from bearclf.train.data import photo_dls
from bearclf.train.features import photo_features, quick_head
from bearclf.practice.drawn import draw_bear, draw_bears
from bearclf.clean.issues import *
from bearclf.train.learner import photo_learner

Q = '' if os.name == 'nt' else '?'  # Windows has no such names


def learner(path, size=224, pretrained=True):
    return photo_learner(photo_dls(path, size, num_workers=0), 'squeezenet1_0', pretrained)


def bare(path): return learner(path, 64, False)


def name(photo): return f'{photo.parent.name}/{photo.name}'


@pytest.fixture(scope='module')
def real(shared, tmp_path_factory):
    "Half of the real photos, 8 % of them in another folder, and copies: (learner, table, flipped, copies)"
    path, rng = tmp_path_factory.mktemp('real')/'bears', np.random.default_rng(7)
    files = find_photos(shared/'bears_small')[::2]
    labels = [class_of(o) for o in files]
    flipped = set(rng.choice(len(files), round(.08*len(files)), replace=False))
    for i, (f, label) in enumerate(zip(files, labels)):
        if i in flipped: label = rng.choice([o for o in ('black', 'grizzly', 'teddy') if o != label])
        (path/label).mkdir(parents=True, exist_ok=True)
        shutil.copy(f, path/label/f'{i}{"x"*(i in flipped)}.jpg')
    still = [o for o in sorted(path.glob('*/*.jpg')) if 'x' not in o.name]
    copies = still[3], still[60], still[120]
    shutil.copy(copies[0], copies[0].with_name('z copy.jpg'))
    Image.open(copies[1]).convert('RGB').resize((150, 140)).save(copies[1].with_name('z small.jpg'))
    shutil.copy(copies[2], path/('black' if copies[2].parent.name != 'black' else 'teddy')/'z across.jpg')
    old = os.environ.get('TORCH_HOME')
    os.environ['TORCH_HOME'] = str(shared/'torch')
    try: learn = learner(path)
    finally: os.environ.pop('TORCH_HOME') if old is None else os.environ.update(TORCH_HOME=old)
    return learn, find_issues(learn), copies


def test_a_photo_that_goes_while_the_body_looks_is_left_out(tmp_path):
    draw_bears(tmp_path/'bears', 60, 64)
    learn = bare(tmp_path/'bears')
    report = issues.look_for_issues(learn, tmp_path/'bears')
    (gone := report.photos[7]).rename(tmp_path/'gone.jpg')
    forget()
    features = photo_features(report.photos, learn)
    assert [*features.left_out] == [gone] and features.left_out[gone].startswith('not there')
    assert set(issues.issues_of(report, learn, features).photo) == {*report.photos} - {gone}


def test_wrong_labels_come_first(real):
    _, table, _ = real
    suspect = table[[('label' in o) for o in table.kinds]]
    flipped = ['x' in o.name for o in table.photo]
    k = sum(flipped)
    assert np.mean(['x' in o.name for o in suspect.photo[:k]]) >= .7
    assert np.flatnonzero(flipped)[:round(.8*k)].max() <= 2*k + 3
    assert len(table) == len(find_photos(real[0].dls.path)) and table.score.is_monotonic_decreasing
    row = suspect.iloc[0]
    assert row.suggestion == row.prediction != row.label and row.prediction in row.reasons[0] and row.loss > 1


def test_copies_on_real_photos(real):
    _, table, (same, small, across) = real
    rows = {o.photo.name: o for o in table.itertuples()}
    assert 'duplicate' in rows['z copy.jpg'].kinds and rows['z copy.jpg'].suggestion == '<Delete>'
    assert any(name(same) in o for o in rows['z copy.jpg'].reasons)
    assert 'near duplicate' in rows['z small.jpg'].kinds and rows['z small.jpg'].suggestion == '<Delete>'
    assert 'two classes' in rows['z across.jpg'].kinds and rows['z across.jpg'].suggestion == '<Delete>'
    assert rows['z across.jpg'].score > .5
    home = table[table.photo == across].iloc[0]
    assert 'two classes' in home.kinds and home.suggestion != '<Delete>'


def test_leak_and_split(real):
    learn, table, _ = real
    assert set(table.split) == {'train', 'valid'}
    by = dict(zip(table.photo, table.split))
    assert set(by[o] for o in map(type(table.photo[0]), learn.dls.valid_ds.items)) == {'valid'}
    for o in table[[('leak' in o) for o in table.kinds]].itertuples():
        assert {'duplicate', 'near duplicate', 'two classes'} & set(o.kinds) or 'its copy' in str(o.reasons)


def test_photos_kept_aside_are_not_there(real):
    learn, table, _ = real
    aside = list(table.photo[:5]) + [o for o in table.photo if o.name == 'z across.jpg']
    again = find_issues(learn, test=map(str, aside))
    assert len(again) == len(table)-len(set(aside)) and not set(again.photo) & set(aside)
    assert not [o for r in again.reasons for o in r if 'z across' in o]


def test_planted_outliers_and_copies_of_drawn_bears(shared, tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(shared/'torch'))
    planted = draw_bears(tmp_path/'bears', 200, 160, seed=3, outliers=5, duplicated=2, duplicated_across=3,
                         near_duplicated=3)
    table = find_issues(learner(tmp_path/'bears'))
    kinds = {name(o.photo): o.kinds for o in table.itertuples()}
    outliers = planted.file[planted.fault == 'outliers']
    assert sum('outlier' in kinds[o] for o in outliers) >= 4
    assert sum('outlier' in o for o in kinds.values()) <= 10
    for o in planted[planted.fault.str.contains('duplicated')].itertuples():
        pair, want = kinds[o.file] + kinds[o.original], 'two classes' if o.label != o.truth else 'duplicate'
        assert any(want in k for k in pair), o
    assert not {*outliers} & set(map(name, table.photo[table.suggestion != ''])), 'shown, and never suggested'
    deleted = set(map(name, table.photo[table.suggestion == '<Delete>']))
    copies = planted[planted.original != '']
    assert all((o.file in deleted) != (o.original in deleted) for o in copies.itertuples()), 'of two copies, one stays'
    across = planted[planted.fault == 'duplicated_across']
    assert sum(o.file in deleted for o in across.itertuples()) == 3, 'the one in the wrong class goes'


def far_from(x, y, groups): return issues._far_from(issues._away_from(x, y, groups), y)
def far(x): return issues._far(issues._away(x))


def findings(x, y, real=issues.out_of_sample):
    "The label findings of rows `x` with labels `y`, by row"
    alone = np.arange(len(y))
    strange = far_from(x, y, alone) > issues.STRANGE
    return {o.i: o for o in issues._label_findings(real(x, y), y, np.array(['a', 'b', 'c']), alone, strange)}


def test_a_class_is_suggested_only_where_the_photo_lies_among_its_photos():
    rng, y = np.random.default_rng(0), np.repeat([0, 1, 2], 40)
    middle, away = 9*np.eye(3, 8), 9*np.eye(8)[5]
    x = middle[y] + rng.normal(size=(120, 8))
    x[0], x[40] = middle[1], middle[2]  # in the wrong folder
    x[80] = away + middle[0]  # of another kind, and a little like the first
    found = findings(x, y)
    assert set(found) == {0, 40, 80} and [found[i].suggestion for i in (0, 40, 80)] == ['b', 'c', '']
    assert 'none of the classes' in found[80].reason and 'none' not in found[0].reason + found[40].reason
    few = np.r_[0:8, 40:48, 80:88]  # too few to know what is usual: the model's word has to do
    assert not far_from(x[few], y[few], few).any()


def test_farness_leaves_a_photo_and_its_copies_out():
    rng, y = np.random.default_rng(1), np.repeat([0, 1], 30)
    x = np.abs(rng.normal(size=(60, 32)))
    x[0] = -x[0]
    alone, twins = np.r_[x, x[:1]], np.r_[np.arange(60), 0]
    steps = far_from(alone, np.r_[y, 1], twins)  # the copy lies in the other class
    assert steps[0, 0] > 3 and np.allclose(steps[0], steps[60]) and steps[1:30, 0].max() < steps[0, 0]


def test_a_sample_measures_where_there_are_many_photos(monkeypatch):
    "Strangers stand out as among all, a rare class is still known, and no photo is compared with more than the sample"
    rng, y = np.random.default_rng(3), np.r_[np.repeat([0, 1, 2], 200), np.full(20, 3)]
    x = np.abs(9*np.eye(4, 32)[y] + rng.normal(size=(620, 32)))
    strangers = rng.permutation(600)[:5]
    x[strangers] = np.abs(9*np.eye(32)[20:25] + rng.normal(size=(5, 32)))
    exact, of_each = far(x), far_from(x, y, np.arange(620))
    most, real = [], NearestNeighbors.fit
    monkeypatch.setattr(NearestNeighbors, 'fit', lambda self, x: most.append(len(x)) or real(self, x))
    monkeypatch.setattr(issues, 'MEASURED', 300)
    steps, away = far(x), far_from(x, y, np.arange(620))
    assert {*(-steps).argsort()[:5]} == {*(-exact).argsort()[:5]} == {*strangers}
    assert (steps[strangers] > issues.FAR).all()
    assert most == [300, 200, 200, 200, 20] and away[:, 3].any()
    assert (away[strangers] > issues.STRANGE).all() and (of_each[strangers] > issues.STRANGE).all()
    assert np.corrcoef(steps, exact)[0, 1] > .95


def test_outliers_are_those_of_cleanlab():
    x = np.abs(np.random.default_rng(4).normal(size=(200, 24)))
    scores = -OutOfDistribution(dict(k=20)).fit_score(features=x, verbose=False)
    assert np.allclose(far(x), issues._steps(scores, scores))
    assert not far(x[:9]).any(), 'too few to know what is usual'


def changed_photos(path):
    "What `find_issues` does for photos below `path`: its table, and how many of them each head has judged"
    judged, real = [], issues._fit_predict
    def noted(x, y, held): judged.append(len(held)); return real(x, y, held)
    with pytest.MonkeyPatch.context() as m:
        m.setattr(issues, '_fit_predict', noted)
        return find_issues(bare(path)), judged


def test_of_very_many_photos_only_what_is_new_is_measured(tmp_path, monkeypatch):
    monkeypatch.setenv('BEARCLF_CACHE', str(tmp_path/'cache'))
    monkeypatch.setattr(issues, 'MEASURED', 100)
    path = tmp_path/'bears'
    draw_bears(path, 200, 64, seed='kept')
    first, judged = changed_photos(path)
    assert len(judged) == 15 and sum(judged) == 600
    again, judged = changed_photos(path)
    assert judged == [] and again.drop(columns='split').equals(first.drop(columns='split'))
    kept = sorted(path.glob('black/*'))[0]
    where = path/'teddy'/f'from black {kept.name}'
    kept.rename(where)  # another label is new, as well as another photo
    draw_bear('grizzly', 'new', 64).save(path/'grizzly/new.png')
    table, judged = changed_photos(path)
    table = table.set_index('photo')
    assert judged == [2] and len(table) == 201 and table.label[where] == 'teddy'
    same = [o for o in first.photo if o in table.index]
    assert np.array_equal(table.loc[same].probability, first.set_index('photo').loc[same].probability)
    later, judged = changed_photos(path)
    assert judged == [] and later.drop(columns='split').equals(table.reset_index().drop(columns='split'))
    draw_bear('grizzly', 'newer', 64).save(path/'grizzly/newer.png')
    assert sum(changed_photos(path)[1]) == 606, 'more than one in a hundred: all of them again'
    assert changed_photos(path)[1] == []
    for o in sorted(path.glob('teddy/0*'))[:3]: o.unlink()
    assert sum(changed_photos(path)[1]) == 597, 'so many are gone that the others were measured by'
    [file] = (tmp_path/'cache/measured').glob('*.npz')
    for damaged in b'', b'PK', file.read_bytes()[:-900]:
        file.write_bytes(damaged)
        assert sum(changed_photos(path)[1]) == 597 and changed_photos(path)[1] == []


def test_up_to_so_many_photos_nothing_is_kept_of_what_was_measured(tmp_path, monkeypatch):
    monkeypatch.setenv('BEARCLF_CACHE', str(tmp_path/'cache'))
    draw_bears(tmp_path/'bears', 20, 64)
    assert all(len(changed_photos(tmp_path/'bears')[1]) == 15 for _ in range(2))
    assert not (tmp_path/'cache/measured').exists()


def test_what_is_new_is_not_judged_by_its_copies():
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(40, 300)), 2, 0).astype(np.float32)  # each row twice, labels that mean nothing
    y, few = np.repeat(np.arange(40) % 2, 2), np.arange(0, 80, 10)
    right = lambda groups: (issues._measure_few(x, y, groups, few)[:, :2].argmax(1) == y[few]).mean()
    assert right(np.arange(80)) > .9 and right(np.arange(80)//2) < .8
    all_one = issues._measure_few(x, y, np.zeros(80, int), few)
    assert np.allclose(all_one[:, :2], .5), 'nothing is left to learn from'


def test_a_few_real_photos_are_judged_as_all_are(real):
    learn, table, _ = real
    files, labels = list(table.photo), np.unique(table.label, return_inverse=True)[1]
    x = photo_features(files, learn)(files)
    alone, n = np.arange(len(files)), len(files)
    whole, parts = issues._measure(x, labels, alone, 5, 42), np.array_split(np.random.default_rng(0).permutation(n), 50)
    few = np.zeros_like(whole)
    for o in parts: few[o] = issues._measure_few(x, labels, alone, o)
    flipped = ['x' in o.name for o in files]
    found = [np.mean((p[:, :3].argmax(1) != labels)[flipped]) for p in (whole, few)]
    assert np.mean(whole[:, :3].argmax(1) == few[:, :3].argmax(1)) > .9 and abs(found[0] - found[1]) <= .1
    assert np.allclose(whole[:, 3:], few[:, 3:], atol=1e-5)


def test_no_percentage_is_0_or_100():
    y, sure = np.repeat([0, 1, 2], 20), np.eye(3)[np.repeat([0, 1, 2], 20)]
    sure[0] = 0, 1, 0
    found = issues._label_findings(sure, y, np.array(['a', 'b', 'c']), np.arange(60), np.zeros((60, 3), bool))
    assert [o.reason for o in found] == ['looks like b (>99.9%)']


def test_a_number_that_was_always_the_same_decides_nothing():
    rng, y = np.random.default_rng(2), np.repeat([0, 1], 40)
    x = rng.normal(size=(80, 30)) + 2*y[:, None]
    x = np.c_[x, 1e-4*rng.normal(size=80)]
    x[:, -1] += 1e-4*y
    x[0, -1] = 1  # ten thousand times what was usual
    before = x.copy()
    assert out_of_sample(x, y)[0, 0] > .5 and quick_head(.01).fit(x, y).predict(x).any()
    assert np.array_equal(x, before), 'they are clipped in a copy'


def test_a_suggestion_is_as_sure_as_its_own_finding():
    row = dict(photo=None, label='a', score=.93)
    rows = [dict(row, suggestion='b', kinds=['outlier', 'label'], scores=[.93, .6]),
            dict(row, suggestion='<Delete>', kinds=['label', 'two classes'], scores=[.93, .55]),
            dict(row, suggestion='<Delete>', kinds=['near duplicate', 'label'], scores=[.93, .6]),
            dict(row, suggestion='b', kinds=['label'], scores=[.93]),
            dict(row, suggestion='', kinds=['outlier'], scores=[.93])]
    table = issues.pd.DataFrame(rows)
    assert list(suggestions(table).index) == [2, 3] and list(suggestions(table, 0).index) == [0, 1, 2, 3]
    assert list(suggestions(table[:0]).columns) == list(table.columns)


def test_each_head_keeps_to_one_thread_and_they_say_how_far_they_are(monkeypatch):
    seen = []
    class Head:
        def fit(self, x, y):
            seen.append({o['num_threads'] for o in threadpool_info() if o['user_api'] == 'blas'})
            return self
        def predict_proba(self, x): return np.full((len(x), 2), .5)
    monkeypatch.setattr(issues, 'quick_head', lambda C: Head())
    monkeypatch.setattr(issues, 'progress', lambda it, desc, total: seen.append((desc, total)) or it)
    out_of_sample(np.zeros((20, 3)), np.repeat([0, 1], 10))
    assert len(seen) == 16 and seen.count({1}) == 15 and ('Judging each photo by the others', 15) in seen


def test_old_keywords_draw_the_same_as_ever(tmp_path):
    for o, more in ('a', {}), ('b', dict(outliers=2, duplicated_across=2)):
        draw_bears(tmp_path/o, 12, 32, seed=1, mislabelled=0, **more)
    planted = (tmp_path/'b/planted.csv').read_text()
    files = [o.relative_to(tmp_path/'a') for o in (tmp_path/'a').glob('*/*.jpg')]
    same = [(tmp_path/'b'/o).read_bytes() == (tmp_path/'a'/o).read_bytes() for o in files]
    assert same.count(False) == 2 and all(s or f'{o.as_posix()},outliers' in planted for s, o in zip(same, files))
    assert len(list((tmp_path/'b').glob('*/*.jpg'))) == 14


def test_quality_in_words(tmp_path):
    draw_bears(tmp_path/'bears', 12, 96)
    f = tmp_path/'bears/teddy'
    bear = draw_bear('teddy', 1, 200)
    bear.point(lambda o: o*.08).save(f/f'dark{Q}.jpg', 'JPEG')
    bear.resize((40, 44)).save(f/'tiny.png')
    bear.resize((600, 60)).save(f/'long 100%.jpg', 'JPEG')
    Image.new('RGB', (200, 200), 'white').save(f/'empty.jpg')
    (f/'broken.jpg').write_bytes(b'no photo')
    kinds = {o.photo.name: set(o.kinds) for o in find_issues(bare(tmp_path/'bears')).itertuples()}
    assert 'broken.jpg' not in kinds
    for file, kind in {f'dark{Q}.jpg': 'dark', 'tiny.png': 'tiny', 'long 100%.jpg': 'odd shape',
                       'empty.jpg': 'low information'}.items():
        assert kind in kinds[file], (file, kinds[file])


def test_few_photos_and_odd_classes(tmp_path):
    path = tmp_path/'bears'
    draw_bears(path, 12, 64)
    learn = bare(path)
    (path/'кот').mkdir()
    draw_bear('teddy', 'alone', 64).save(path/'кот/one.jpg')
    table = find_issues(learn, path)
    alone = table[table.label == 'кот'].iloc[0]
    assert len(table) == 13 and 'label' not in alone.kinds and np.isfinite(alone.loss) and alone.split == ''
    one = find_issues(learn, path.rename(tmp_path/'moved'),
                      test=[o for o in (tmp_path/'moved').glob('*/*') if o.parent.name != 'black'])
    assert set(one.label) == {'black'} and set(one.prediction) == {'black'}
    assert not [o for k in one.kinds for o in k if o == 'label']
    for c in 'ab': (tmp_path/'two'/c).mkdir(parents=True); draw_bear('teddy', c, 64).save(tmp_path/'two'/c/'1.jpg')
    assert len(find_issues(learn, tmp_path/'two')) == 2
    (tmp_path/'none/black').mkdir(parents=True)
    with pytest.raises(BearclfError, match='no photos in class folders'): find_issues(learn, tmp_path/'none')
    with pytest.raises(BearclfError, match='There is no folder'): find_issues(learn, tmp_path/'nowhere')


def test_out_of_sample_keeps_copies_together():
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(40, 300)), 2, 0).astype(np.float32)  # each row twice, labels that mean nothing
    y = np.repeat(np.arange(40) % 2, 2)
    right = lambda p: (p.argmax(1) == y).mean()
    assert right(out_of_sample(x, y)) > .9 and right(out_of_sample(x, y, groups=np.arange(80)//2)) < .7
    p = out_of_sample(x, np.array(['b', 'a'])[y], folds=3, seed=1)
    assert p.shape == (80, 2) and np.allclose(p.sum(1), 1)
    assert (p != out_of_sample(x, y, folds=3, seed=2)).any()
    assert np.allclose(p[:, ::-1], out_of_sample(x, y, folds=3, seed=1), atol=.2)


def test_suggestions_and_page(tmp_path):
    path = tmp_path/'bears <i>'
    draw_bears(path, 30, 64, duplicated=2, mislabelled=2)
    (path/'teddy').rename(path/'тедди')
    next((path/'тедди').glob('*.jpg')).rename(path/f'тедди/a & b{Q}.jpg')
    table = find_issues(bare(path))
    some = suggestions(table, .9)
    assert len(some) >= 1 and (some.score >= .9).all() and (some.suggestion != '').all()
    assert len(suggestions(table, 0)) >= len(suggestions(table)) >= len(some) and len(suggestions(table, 1.01)) == 0
    table.loc[table.photo == path/f'тедди/a & b{Q}.jpg', 'score'] = 1.
    page = issues_html(table, path, n=1000)
    assert page.count('<article>') == (table.score > 0).sum() == page.count('data:image/jpeg;base64,')
    assert 'bears &lt;i&gt;' in page and f'тедди/a &amp; b{Q}.jpg' in page and 'a & b' not in page
    assert 'src="http' not in page and page.count('has not learned from the photo') == 1
    assert issues_html(table, path, n=3).count('<article>') == 3 and 'color-scheme: light dark' in page
    table.photo[0].rename(tmp_path/'gone.jpg')
    assert issues_html(table, path, n=3).count('<article>') == 2


def test_what_was_seen_is_kept_on_disk(tmp_path, monkeypatch):
    monkeypatch.setenv('BEARCLF_CACHE', str(tmp_path/'cache'))
    draw_bears(tmp_path/'bears', 12, 64)
    learn, seen = bare(tmp_path/'bears'), []
    noted = lambda k, f: lambda im: seen.append(k) or f(im)
    for k, f in issues.MEASURES.items(): monkeypatch.setitem(issues.MEASURES, k, noted(k, f))
    forget()
    first = find_issues(learn)
    def again():
        seen.clear(), forget()  # as in another process
        return find_issues(learn)
    assert len(seen) == 12*2 and again().equals(first) and not seen
    first.photo[0].rename(tmp_path/'bears/teddy/renamed.jpg')
    assert len(again()) == 12 and not seen
    file = first.photo[1]
    file.write_bytes(file.read_bytes() + b'changed')
    changed = again()
    assert len(seen) == 2
    kept = max((tmp_path/'cache/photos').glob('*.json'), key=os.path.getmtime)
    kept.write_bytes(kept.read_bytes()[:500])
    assert again().equals(changed) and len(seen) == 2 and again().equals(changed) and not seen
    monkeypatch.setattr(os, 'replace', lambda *a: (_ for _ in ()).throw(OSError(28, 'No space left on device')))
    file.write_bytes(file.read_bytes() + b'once more')
    assert len(again()) == 12 and len(seen) == 2


def test_a_leak_is_told_on_both_sides(tmp_path):
    draw_bears(tmp_path/'bears', 30, 64)
    learn = bare(tmp_path/'bears')
    train, valid = learn.dls.train_ds.items[0], learn.dls.valid_ds.items[0]
    shutil.copy(train, valid)
    shutil.copy(learn.dls.train_ds.items[1], learn.dls.train_ds.items[2])  # a copy, but no leak
    table = find_issues(learn)
    leaks = {name(o.photo): ' '.join(o.reasons) for o in table.itertuples() if 'leak' in o.kinds}
    assert set(leaks) == {name(train), name(valid)} and 'to judge by, this one is to learn from' in leaks[name(train)]
    assert name(train) in leaks[name(valid)]


def test_kinds_in_their_own_order(tmp_path):
    draw_bears(tmp_path/'bears', 40, 64, duplicated=3, mislabelled=4)
    table = find_issues(bare(tmp_path/'bears'))
    for kind in 'label', 'duplicate':
        rows = of_kind(table, kind)
        scores = [dict(zip(o.kinds, o.scores))[kind] for o in rows.itertuples()]
        assert len(rows) == sum(kind in o for o in table.kinds) > 0 and scores == sorted(scores, reverse=True)
    assert len(of_kind(table, 'blurry', 'tiny')) == sum(bool({'blurry', 'tiny'} & set(o)) for o in table.kinds)


def test_copies_of_a_photo_are_judged_together(tmp_path, monkeypatch):
    draw_bears(tmp_path/'bears', 20, 64)
    learn, seen = bare(tmp_path/'bears'), {}
    files = find_photos(tmp_path/'bears')
    shutil.copy(files[0], files[-1])
    real = issues.out_of_sample
    def noted(features, labels, folds, seed, groups):
        seen['groups'] = groups; return real(features, labels, folds, seed, groups=groups)
    monkeypatch.setattr(issues, 'out_of_sample', noted)
    find_issues(learn)
    groups = seen['groups'].tolist()
    assert groups[0] == groups[-1] and len(set(groups)) == len(files) - 1
