"A classifier answers whoever asks, with whatever, from as many threads as there are; and a thousand classes have room"
import io, threading, warnings
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import pytest
from PIL import Image

with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    import pandas as pd, torch
    from fastai.vision.all import (
        Callback, CategoryBlock, CrossEntropyLossFlat, DataBlock, Flatten, ImageBlock, ImageDataLoaders, L, Learner,
        Normalize, PILImage, PILImageBW, RandomSplitter, Resize, ResizeMethod, aug_transforms, get_image_files,
        imagenet_stats, load_learner, nn, parent_label)
from bearclf.core import BearclfError, a_few
from bearclf.photo import any_photo, read_photo
from bearclf.practice.drawn import draw_bears, draw_outlier
from bearclf.ship import page
from bearclf.ship.predict import Classifier, Evaluation, _prediction, evaluate, kept_aside, load_classifier
from bearclf.ship.export import export_classifier
from bearclf.train.data import photo_dls
from bearclf.train.features import precomputed_learner
from bearclf.train.interpret import compare_errors, wilson_interval
from bearclf.train.learner import CPUMixedPrecision
from helpers import LONG, seeds


@pytest.fixture(scope='module')
def bears(tmp_path_factory):
    path = tmp_path_factory.mktemp('drawn')/'bears'
    draw_bears(path, 24, 64, seed=5)
    return path

@pytest.fixture(scope='module')
def files(bears): return sorted(bears.glob('*/*.jpg'))

@pytest.fixture(scope='module')
def clf(demo_model): return load_classifier(demo_model, trust=True)

@pytest.fixture(scope='module')
def light(bears):
    "One that takes no time"
    return Classifier(plain(bears), {})


def in_threads(f, things, n=8):
    "What `f` says of each, from `n` threads that begin at one moment; a thread that hangs is a failure"
    said, begin = [None]*len(things), threading.Barrier(n)
    def work(k):
        begin.wait()
        for i in range(k, len(things), n): said[i] = f(things[i])
    threads = [threading.Thread(target=work, args=(k,), daemon=True) for k in range(n)]
    for o in threads: o.start()
    for o in threads: o.join(LONG)
    assert not any(o.is_alive() for o in threads), 'it hangs'
    return said

@pytest.mark.parametrize('run', seeds(20))
def test_eight_threads_are_told_what_one_is(clf, files, run):
    assert in_threads(clf, files) == [clf(o) for o in files]

def test_eight_threads_ask_for_several(light, files, bears):
    asked = [files[:5], files[5:6], [], files[6:]]*4
    assert in_threads(light.many, asked) == [light.many(o) for o in asked]
    once = evaluate(light, bears)
    assert in_threads(lambda _: evaluate(light, bears), range(8)) == [once]*8

def test_two_classifiers_of_one_learner(clf, files):
    both, alone = [clf, Classifier(clf.learn, clf.info)], [clf(o) for o in files]
    assert in_threads(lambda i: both[i % 2](files[i]), range(len(files))) == alone

@pytest.mark.parametrize('run', seeds(20))
def test_twenty_visitors(clf, files, run):
    "All on one page's classifier"
    def visit(i):
        up, button, said = page.PhotoUpload(), widgets.Button(), page.LiveHTML()
        page.connect(up, button, said, loading)
        up._received(up, dict(kind='photo', name='a.jpg', seen=True), [memoryview(files[i].read_bytes())])
        button.click()
        return said.html
    loading, n = page.load_in_background(clf), min(20, len(files))
    assert in_threads(visit, range(n), n) == [page.answer_html(clf(o), 'a.jpg') for o in files[:n]]


class Trips(Callback):
    "Fails at the start, where fastai's own lock stays closed"
    def before_fit(self): raise RuntimeError('tripped')

def test_after_a_failure_the_next_one_is_told_too(demo_model, files):
    clf = load_classifier(demo_model, trust=True)
    cb = Trips()
    clf.learn.add_cb(cb)
    for _ in range(2):
        with pytest.raises(RuntimeError, match='tripped'): clf(files[0])
    clf.learn.remove_cb(cb)
    assert in_threads(clf, files[:8]) == [clf(o) for o in files[:8]]


# Learners of all kinds: what fastai's own way says is what is said here

def squeezed(im:PILImage): return im.resize((20, 40))  # a transform of one's own
def small(dls, n_in=3, **kw):
    model = nn.Sequential(nn.Conv2d(n_in, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), Flatten(),
                          nn.Linear(8, 3))
    return Learner(dls, model, CrossEntropyLossFlat(), **kw)

def plain(path):
    return small(ImageDataLoaders.from_folder(path, valid_pct=.3, item_tfms=Resize(32), bs=8, num_workers=0))
def own(path):
    return small(DataBlock((ImageBlock, CategoryBlock), get_items=get_image_files, get_y=parent_label,
                           splitter=RandomSplitter(.3, seed=1), item_tfms=[squeezed, Resize(32, ResizeMethod.Squish)],
                           batch_tfms=[*aug_transforms(), Normalize.from_stats(*imagenet_stats)])
                 .dataloaders(path, bs=8, num_workers=0))
def grey(path):
    return small(DataBlock((ImageBlock(PILImageBW), CategoryBlock), get_items=get_image_files, get_y=parent_label,
                           splitter=RandomSplitter(.3, seed=1), item_tfms=Resize(32))
                 .dataloaders(path, bs=8, num_workers=0), 1)
def half(path): return plain(path).to_fp16()
def bfloat(path): return small(plain(path).dls, cbs=CPUMixedPrecision())
def ours(path): return small(photo_dls(path, 32, num_workers=0))
def by_table(path):
    df = pd.DataFrame(dict(name=[o.relative_to(path).as_posix() for o in get_image_files(path)]))
    df['label'] = df.name.str.split('/').str[0]
    return small(ImageDataLoaders.from_df(df, path, valid_pct=.3, item_tfms=Resize(32), bs=8, num_workers=0))

@pytest.mark.parametrize('make', [plain, own, grey, half, bfloat, ours, by_table])
def test_what_fastai_says(bears, files, tmp_path, make, capsys):
    make(bears).export(tmp_path/'export.pkl')
    clf = load_classifier(tmp_path, trust=True)
    learn = load_learner(tmp_path/'export.pkl')
    items = [o.convert('L') for o in map(read_photo, files)] if make is grey else list(map(read_photo, files))
    skip = 1 if make is by_table else 0
    with learn.no_bar(): probs, _ = learn.get_preds(dl=learn.dls.test_dl(items, rm_type_tfms=skip, num_workers=0))
    said = in_threads(clf, files)
    assert [o.label for o in said] == [learn.dls.vocab[i] for i in probs.argmax(1)]
    found = [[o.probabilities[c] for c in clf.classes] for o in said]
    assert np.array(found) == pytest.approx(probs.numpy(), abs=1e-5)
    assert [o.label for o in clf.many(files)] == [o.label for o in said]


# What one can ask with

def test_things_to_ask_with(light, files):
    data, im = files[0].read_bytes(), read_photo(files[0])
    things = [files[0], str(files[0]), data, bytearray(data), memoryview(data), io.BytesIO(data), files[0].open('rb'),
              im, np.array(im), torch.from_numpy(np.array(im)).permute(2, 0, 1), PILImage.create(files[0]),
              dict(name='a.jpg', content=memoryview(data))]
    said = light(files[0])
    assert list(map(light, things)) == [said]*len(things)
    assert [o.probability for o in light.many(things)] == pytest.approx([said.probability]*len(things), abs=1e-5)

def test_many_of_none_and_of_what_comes_in_turn(light, files):
    said = light.many(files[:3])
    assert light.many([]) == light.many(iter(())) == light.many(()) == []
    assert light.many(o for o in files[:3]) == light.many(L(files[:3])) == light.many(pd.Series(files[:3])) == said
    ims = [np.array(any_photo(o).resize((48, 48))) for o in files[:3]]
    assert light.many(np.stack(ims)) == light.many(ims)

def test_many_holds_few_at_a_time(light, files):
    "Of a generator, no more is taken than is looked at next"
    taken = []
    def photos():
        for i in range(150): taken.append(i); yield files[i % len(files)]
    sizes, batch = [], light._batch
    light._batch = lambda photos: sizes.append((len(photos), len(taken))) or batch(photos)
    try: assert len(light.many(photos())) == 150
    finally: del light._batch
    assert sizes == [(64, 64), (64, 128), (22, 150)]

@pytest.mark.parametrize('one', [None, 3, 'a.jpg', Path('a.jpg'), b'x', Image.new('RGB', (3, 3)), np.zeros((3, 3, 3)),
                                 torch.zeros(3, 4, 4), io.BytesIO(), dict(content=b'')])
def test_one_thing_is_no_list(light, one):
    with pytest.raises(BearclfError, match=r'many\(\[photo\]\)'): light.many(one)

def test_a_list_is_not_one_thing(light, files):
    with pytest.raises(BearclfError, match='`many` takes a list'): light(files[:2])
    for o in None, 3, np.zeros((0, 3)), 'https://a.example/x.jpg':
        with pytest.raises(BearclfError) as e: light(o)
        assert '\n' not in str(e.value)


# Figures

@pytest.mark.parametrize('p', [1, 1 - 1e-9, .99951, .9994, .5, .0004, 0])
def test_an_answer_is_as_sure_as_the_page_says(p):
    said = str(_prediction(['a', 'b'], [p, 1 - p]))
    assert f'({page.percent(max(p, 1 - p))})' in said and '100' not in said
    assert f'>{page.percent(p)}<'.replace('><', '>&lt;').replace('>>', '>&gt;') in page.bars_html({'a': p, 'b': 1 - p})

def test_each_photo_has_a_row_and_two_models_are_compared_by_them(light, bears, files):
    res = evaluate(light, bears)
    t = res.table
    assert list(t.file) == files and [o.parent.name for o in t.file] == list(t.actual)
    assert list(t.predicted) == [light(o).label for o in files] and t.probability.between(1/3 - 1e-6, 1).all()
    assert sum(t.actual != t.predicted) == res.n_wrong and res.interval == wilson_interval(res.n_wrong, len(files))
    other = Evaluation(24, 0, {}, {}, judged=tuple((f, a, a, 1.) for f, a, *_ in res.judged[::-1]))
    found = compare_errors(res.table, other.table)
    assert (found.n, found.wrong_a, found.wrong_b, found.only_a, found.only_b) == (24, res.n_wrong, 0, res.n_wrong, 0)

def test_whether_a_photo_is_familiar_is_none_where_nobody_has_measured(demo_model):
    clf, thing = load_classifier(demo_model, trust=True), draw_outlier('something else', 160)
    assert clf(thing).familiar is False
    del clf.learn.familiar
    pred = clf(thing)
    assert pred.familiar is None and f'{pred.label} (' in str(pred) and 'not seen' not in page.answer_html(pred)

FACTS = dict(error_rate=.15, n_wrong=9, n_valid=60, interval=[.0811, .2611])

def test_photos_that_the_model_has_learned_from_are_told(tmp_path):
    draw_bears(tmp_path/'bears', 30, 48, seed='seen')
    learn = precomputed_learner(tmp_path/'bears', 'efficientnet_lite0', 64, num_workers=0)
    clf = load_classifier(export_classifier(learn, tmp_path/'model'))
    res = evaluate(clf, tmp_path/'bears')
    assert res.learned_from == 24 and 'has learned from 24 of these photos, so this figure flatters' in str(res)
    for o in learn.dls.train_ds.items: o.unlink()
    for o in learn.dls.valid_ds.items: o.rename(o.with_name(f'again {o.name}'))
    res = evaluate(clf, tmp_path/'bears')
    assert (res.n, res.learned_from) == (6, 0) and 'flatters' not in str(res)


@pytest.mark.parametrize('facts, said', [
    (FACTS, ('9 of 60 photos that were kept aside are wrong', ' (15.0%; 95% interval 8.1% to 26.1%)')),
    (FACTS | dict(interval=None), ('9 of 60 photos that were kept aside are wrong', ' (15.0%)')),
    (FACTS | dict(n_wrong=0, error_rate=0.),
     ('0 of 60 photos that were kept aside are wrong', ' (0.0%; 95% interval 8.1% to 26.1%)')),
    (dict(error_rate=.15), 'error rate 15.0%'), ({}, ''),
    (dict(error_rate=None, n_wrong=0, n_valid=0), 'no photos were kept aside to judge it by')])
def test_what_was_kept_aside_is_said_with_its_numbers(facts, said):
    "The page leaves out the interval; an export.json of before knows the rate alone"
    a, b = said if isinstance(said, tuple) else ('', said)
    assert kept_aside(facts) == a + " by the folder's labels"*bool(a) + b
    said = a + b.split(';')[0] + ')'*(';' in b)
    assert page._made_of_html(dict(arch='net', n_photos=1300) | facts) == ' · '.join(
        filter(None, ['net', '1,300 photos', said]))


# Many classes

def judged(names, n=3):
    confusion = {a: {p: 0 for p in names} for a in names}
    for i, a in enumerate(names): confusion[a][a] = n; confusion[a][names[i - 1]] += 1
    confusion[names[0]][names[1]] += 7
    return Evaluation(len(names)*(n + 1) + 7, len(names) + 7, confusion, {})

LONG_NAME = 'a name that a person has made of very many words, as people do, '
NAMES = {n: [f'breed {i}' for i in range(n)] for n in (4, 8, 11, 37, 120, 1000)} | {
    'long': [LONG_NAME + o for o in 'abc'], 'wide': [f'кот {i}'*12 for i in range(40)]}

@pytest.mark.parametrize('names', NAMES)
def test_no_line_is_longer_than_a_page(names):
    "There are few lines, and where there is no matrix, the worst pairs stand first"
    names = NAMES[names]
    res, pred = judged(names), _prediction(names, np.linspace(0, 1, len(names)))
    for text in str(res), res._repr_markdown_():
        assert max(map(len, text.splitlines())) <= (100 if 'matrix' in text else 120) and len(text.splitlines()) < 30
    if 'matrix' in str(res):
        assert str(res).splitlines()[1][0] in '78' and ' taken for ' in str(res)
        assert f'The matrix of {len(names)} classes' in str(res) and '`.confusion`' in str(res)
    if len(names) > 11: assert len(repr(res)) < 300 and len(pred.__repr__()) < 1000
    assert page.bars_html(pred.probabilities).count('<li>') == (len(names) if len(names) < 11 else 6)
    assert len(a_few(names)) < 90 and (len(names) < 11 or ' others' in a_few(names))

def test_others_have_what_is_left():
    html = page.bars_html({f'c{i}': .5 if i == 3 else .5/999 for i in range(1000)})
    assert '>c3<' in html and '>995 others<' in html and '>49.8%<' in html

def test_three_classes_stay_as_they_are():
    res = judged(['black', 'grizzly', 'teddy'])
    assert str(res) == ('10 of 19 photos are wrong by the folder\'s labels (52.6%; 95% interval 31.7% to 72.7%).\n'
                        'actual \\ predicted  black  grizzly  teddy\n'
                        '             black      3        7      1\n'
                        '           grizzly      1        3      0\n'
                        '             teddy      0        1      3\n'
                        'Misses and false alarms, with 95% intervals:\n'
                        'black: missed 8 of 11 (43.4% to 90.3%); false alarms 1 of 8 (0.6% to 47.1%)\n'
                        'grizzly: missed 1 of 4 (1.3% to 69.9%); false alarms 8 of 15 (30.1% to 75.2%)\n'
                        'teddy: missed 1 of 4 (1.3% to 69.9%); false alarms 1 of 15 (0.3% to 29.8%)')
    assert res.by_class['black'] == dict(n=11, missed=8, missed_interval=wilson_interval(8, 11), others=8,
                                         false_alarms=1, false_alarms_interval=wilson_interval(1, 8))
    assert res._repr_markdown_().splitlines()[-3].startswith('- black: missed 8 of 11')
    assert res._repr_markdown_().splitlines()[2:4] == ['| actual \\ predicted | black | grizzly | teddy |',
                                                       '|---|---|---|---|']
    assert repr(res) == f'Evaluation(n=19, n_wrong=10, confusion={res.confusion}, left_out={{}})'
    said = _prediction(['a', 'b'], [.25, .75])
    assert repr(said) == f"Prediction(label='b', probability=0.75, probabilities={said.probabilities}, familiar=None)"

def test_a_thousand_classes_in_sentences(bears, files, tmp_path):
    "A model with a head of a thousand"
    blocks = ImageBlock, CategoryBlock(vocab=['black', 'grizzly', 'teddy', *NAMES[1000]])
    dls = photo_dls(bears, 32, num_workers=0, blocks=blocks)
    learn = Learner(dls, nn.Sequential(nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(3, 1003)), CrossEntropyLossFlat())
    clf = Classifier(learn, {})
    assert len(repr(clf)) < 100 and repr(clf).endswith(' others')
    res = evaluate(clf, bears)
    assert res.n == 24 and max(map(len, str(res).splitlines())) <= 100
    (tmp_path/'x'/'panda').mkdir(parents=True)
    (tmp_path/'x'/'panda'/'0.jpg').write_bytes(files[0].read_bytes())
    knows = "does not know 'panda'; it knows black, .* others"
    with pytest.raises(BearclfError, match=knows) as e: evaluate(clf, tmp_path/'x')
    assert len(str(e.value)) < 250
