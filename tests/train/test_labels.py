"What fastai takes, bearclf takes: anything that is a photo, labels of any sort, items that are rows of a table, grey"
import io, json, os, pickle, re, shutil, subprocess, sys, unicodedata, warnings

import pytest
from PIL import Image

with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # fastai's import says that torch.jit.script is deprecated
    from fastai.vision.all import (CategoryBlock, ColReader, ColSplitter, DataBlock, ImageBlock,
        ImageDataLoaders, MultiCategoryBlock, Path, PILImage, PILImageBW, PointBlock, RegressionBlock, Resize,
        TensorImage, get_image_files, image2tensor, load_learner, np, pd, tensor, torch,
        vision_learner)
from bearclf.core import BearclfError
from bearclf.practice.drawn import draw_bears
from bearclf.clean.issues import find_issues
from bearclf.clean.loop import CleaningLoop
from bearclf.folder.look import class_of, find_photos
from bearclf.ship.export import export_classifier, model_info
from bearclf.ship.predict import evaluate, load_classifier
from bearclf.train.data import PILPhoto, PhotoBlock, files_of, labels_from_names, open_photo, photo_block, photo_dls
from bearclf.train.features import fit_head, precomputed_learner
from bearclf.train.interpret import (confused_photos, grad_cam, interpret, precision_recall, predictions_table,
    show_cam, top_losses_table, what_looks_wrong)
from bearclf.train.learner import fit_photos, photo_learner, train_photos
from bearclf.train.steer import Resumable, SaveActivations, class_weights, oversampled

CLASSES = ['black', 'grizzly', 'teddy']
KW = dict(item_tfms=Resize(64), bs=8, num_workers=0, seed=1)


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp('drawn')/'bears'
    draw_bears(path, 24, 64)
    return path


@pytest.fixture(scope='module')
def file(path): return find_photos(path)[4]


@pytest.fixture(scope='module')
def table(path):
    files = find_photos(path)
    t = pd.DataFrame(dict(name=[o.relative_to(path).as_posix() for o in files], label=[class_of(o) for o in files]))
    return t.assign(number=t.label.map(CLASSES.index), is_teddy=t.label == 'teddy', valid=t.index % 4 == 0,
                    size=t.index/10, tags=np.where(t.label == 'teddy', 'toy small', 'toy'))


def learner(dls, **kw):
    learn = photo_learner(dls, 'squeezenet1_0', pretrained=False, **kw)
    learn.remove_cbs(learn.cbs.filter(lambda o: o.name == 'progress'))
    return learn
def said(f, *args, **kw):
    with pytest.raises(BearclfError) as e: f(*args, **kw)
    assert '\n' not in str(e.value)
    return str(e.value)
def answer(learn, x): return learn.predict(x)[2]
def same(a, b): return torch.allclose(a, b, atol=1e-6)


# Anything that is a photo

WAYS = {
    'str': str, 'bytes': Path.read_bytes, 'bytearray': lambda f: bytearray(f.read_bytes()),
    'memoryview': lambda f: memoryview(f.read_bytes()), 'file': lambda f: io.BytesIO(f.read_bytes()),
    'entry': lambda f: next(o for o in os.scandir(f.parent) if o.name == f.name),
    'picture': Image.open, 'with alpha': lambda f: Image.open(f).convert('RGBA'),
    'PILImage': PILImage.create, 'PILPhoto': PILPhoto.create, 'array': lambda f: np.array(Image.open(f)),
    'whole numbers': lambda f: np.array(Image.open(f)).astype(int), '0 to 1': lambda f: np.array(Image.open(f))/255,
    'four channels': lambda f: np.array(Image.open(f).convert('RGBA')),
    'tensor': lambda f: tensor(np.array(Image.open(f))),
    'channels first': lambda f: image2tensor(Image.open(f)).contiguous(),
    'channels first, 0 to 1': lambda f: image2tensor(Image.open(f))/255,
    'TensorImage': lambda f: TensorImage(image2tensor(Image.open(f))),
}
GREY = {
    'picture': lambda f: Image.open(f).convert('L'), 'PILImageBW': PILImageBW.create,
    'array': lambda f: np.array(Image.open(f).convert('L')),
    'tensor': lambda f: tensor(np.array(Image.open(f).convert('L'))),
    'one channel': lambda f: np.array(Image.open(f).convert('L'))[..., None],
}


@pytest.fixture(scope='module')
def learners(path, tmp_path_factory):
    out = tmp_path_factory.mktemp('models')
    res = dict(dls=learner(photo_dls(path, 64, num_workers=0)))
    res['block'] = learner(photo_block(64).dataloaders(path, num_workers=0))
    plain = DataBlock((PhotoBlock, CategoryBlock), get_items=find_photos, get_y=class_of, item_tfms=Resize(64))
    res['PhotoBlock'] = learner(plain.dataloaders(path, num_workers=0))
    res['PILPhoto'] = learner(ImageDataLoaders.from_folder(path, valid_pct=.3, img_cls=PILPhoto, **KW))
    res['precomputed'] = precomputed_learner(path, 'squeezenet1_0', 64, pretrained=False, num_workers=0)
    res['exported'] = load_learner(export_classifier(res['dls'], out/'ours'))
    res['dls'].export(out/'plain.pkl')
    res['plainly exported'] = load_learner(out/'plain.pkl')
    res['classifier'] = load_classifier(out/'ours', trust=True).learn
    for o in res.values(): o.remove_cbs(o.cbs.filter(lambda cb: cb.name == 'progress'))
    return res


@pytest.mark.parametrize('which', ['dls', 'block', 'PhotoBlock', 'PILPhoto', 'precomputed', 'exported',
                                   'plainly exported', 'classifier'])
def test_all_that_is_a_photo_is_answered_as_the_file(learners, file, which):
    learn = learners[which]
    expected = answer(learn, file)
    assert [k for k, f in WAYS.items() if not same(answer(learn, f(file)), expected)] == []
    expected = answer(learn, PILImage.create(file).convert('L').convert('RGB'))
    assert [k for k, f in GREY.items() if not same(answer(learn, f(file)), expected)] == []


@pytest.mark.parametrize('first', ['str', 'picture', 'array', 'file'])
def test_a_batch_of_all_sorts(learners, file, first):
    dl = learners['exported'].dls.test_dl([WAYS[first](file), file, *[f(file) for f in WAYS.values()]], num_workers=0)
    probs = learners['exported'].get_preds(dl=dl)[0]
    assert all(same(o, answer(learners['dls'], file)) for o in probs)


def test_a_large_photo_is_read_from_its_bytes_as_from_its_file(learners, tmp_path):
    draw_bears(tmp_path/'large', 3, 900)
    file = find_photos(tmp_path/'large')[0]
    for learn in learners['dls'], learners['exported']:
        expected = answer(learn, file)
        for k in 'str', 'bytes', 'file': assert same(answer(learn, WAYS[k](file)), expected)


@pytest.mark.parametrize('wrong', [5, None, ['a.jpg'], {}, np.zeros((5, 5, 7)), np.zeros(3), np.full((4, 4, 3), 1e9),
                                   np.zeros((0, 0, 3), np.uint8), np.array(['a']), tensor(5.),
                                   TensorImage(torch.zeros(2, 7, 7)),
                                   'there-is-none.jpg', b'no photo', b'', io.BytesIO(b'no photo'), io.StringIO('text')])
def test_what_is_no_photo_is_one_sentence(learners, wrong):
    for learn in learners['dls'], learners['PhotoBlock'], learners['exported']: said(learn.predict, wrong)


@pytest.mark.parametrize('kind', [np.uint16, np.int64, np.int32])
def test_grey_of_more_than_eight_bits_is_scaled(kind):
    im = open_photo(np.array([[0, 65535], [32768, 65535]], kind))
    assert [im.getpixel(o)[0] for o in ((0, 0), (1, 0), (0, 1))] == pytest.approx([0, 255, 127], abs=1)


def test_open_photo_is_upright_and_white_as_before():
    im = Image.new('RGBA', (4, 4), (0, 0, 0, 0))
    assert open_photo(im).getpixel((0, 0)) == open_photo(np.array(im)).getpixel((0, 0)) == (255, 255, 255)
    assert type(open_photo(tensor(np.array(im)))) is PILPhoto


# Learners that fastai has made

def from_df(col='label', **kw):
    return lambda path, t: ImageDataLoaders.from_df(t, path, fn_col='name', label_col=col, **(KW | kw))
def from_csv(path, t):
    t.to_csv(path.parent/'labels.csv', index=False)
    return ImageDataLoaders.from_csv(path, '../labels.csv', label_col='number', **KW)
def by_row(block): return lambda path, t: DataBlock(
    (block, CategoryBlock), get_x=ColReader('name', pref=path), get_y=ColReader('number'),
    splitter=ColSplitter('valid'), item_tfms=Resize(64)).dataloaders(t, path=path, num_workers=0, bs=8)
def from_lists(kind, col): return lambda path, t: ImageDataLoaders.from_lists(
    path, [kind(path/o) for o in t.name], list(t[col]), y_block=CategoryBlock, **KW)
def from_func(path, t): return ImageDataLoaders.from_path_func(path, [path/o for o in t.name],
                                                               lambda o: np.int64(CLASSES.index(o.parent.name)), **KW)
def numbered(path, t): return photo_dls(path, 64, get_y=lambda o: np.int64(CLASSES.index(class_of(o))), num_workers=0)

MADE = {
    'from_df': (from_df(), 'label'), 'from_df numbers': (from_df('number'), 'number'),
    'from_df with valid_col': (from_df(valid_col='valid'), 'label'), 'from_df bool': (from_df('is_teddy'), 'is_teddy'),
    'from_df floats': (from_df('size', y_block=CategoryBlock), 'size'), 'from_csv': (from_csv, 'number'),
    'rows': (by_row(ImageBlock), 'number'), 'rows, PhotoBlock': (by_row(PhotoBlock), 'number'),
    'from_lists': (from_lists(Path, 'number'), 'number'), 'from_lists of str': (from_lists(str, 'label'), 'label'),
    'from_path_func': (from_func, 'number'), 'photo_dls': (numbered, 'number'),
    'grey': (from_df(img_cls=PILImageBW), 'label'),
}


@pytest.fixture(scope='module', params=list(MADE))
def made(request, path, table):
    make, col = MADE[request.param]
    if col == 'size': table = table.assign(size=table.number/2)
    learn = learner(make(path, table))
    return learn, dict(zip([path/o for o in table.name], table[col]))


def test_tables_know_the_file_and_the_label(made):
    learn, labels = made
    interp = interpret(learn)
    t = predictions_table(interp)
    assert t.file.tolist() == files_of(learn.dls.valid_ds) and set(t.file) < set(labels)
    assert t.actual.tolist() == [labels[o] for o in t.file] and set(t.predicted) <= set(learn.dls.vocab)
    expected = [learn.predict(o)[2].max().item() for o in t.file]
    assert t.probability.tolist() == pytest.approx(expected, abs=1e-4)
    top, names = top_losses_table(interp, 3), {f'{o.parent.name}/{o.name}': y for o, y in labels.items()}
    assert [names[o] for o in top.file] == top.actual.tolist() and top.loss.is_monotonic_decreasing
    assert precision_recall(interp).support.sum() == len(t) and what_looks_wrong(learn, interp=interp) is not None
    a, b = list(learn.dls.vocab)[:2]
    assert confused_photos(interp, a, b) == t.file[(t.actual == a) & (t.predicted == b)].tolist()


def test_it_is_exported_loaded_and_asked(made, tmp_path):
    learn, labels = made
    export_classifier(learn, tmp_path/'model')
    clf, photos = load_classifier(tmp_path/'model', trust=True), list(labels)[::8]
    assert clf.classes == [str(o) for o in learn.dls.vocab] == [str(o) for o in clf.info['classes']]
    json.dumps(model_info(learn))
    for o in photos:
        expected = answer(learn, o)
        assert [clf(o).probabilities[k] for k in clf.classes] == pytest.approx(expected.tolist(), abs=1e-4)
        for x in o, str(o), PILImage.create(o): assert same(answer(clf.learn, x), expected)


def test_issues_and_the_loop_go_by_folders(made, path):
    learn, labels = made
    issues = find_issues(learn, path)
    assert set(issues.photo) == set(labels) and set(issues.label) == set(CLASSES)
    train = files_of(learn.dls.train_ds)
    assert files_of(learn.dls.train_ds, range(1, len(train), 3)) == train[1::3]
    assert [o in train for o in issues.photo] == [o == 'train' for o in issues.split]
    assert set(issues.split) == {'train', 'valid'}
    loop = CleaningLoop(learn, path)
    assert len(loop.issues) + len(loop.test) == len(labels)


def test_heads_weights_and_callbacks(made, tmp_path):
    learn, labels = made
    assert class_weights(learn.dls).shape == (len(learn.dls.vocab),) and oversampled(learn.dls).train.one_batch()
    cbs = [SaveActivations(tmp_path/'seen', layers=['1']), Resumable(tmp_path/'run.pth')]
    learn.fit(1, cbs=cbs)
    assert (tmp_path/'seen/000/1.npy').exists()
    fit_head(learn)
    assert predictions_table(interpret(learn, 0)).actual.tolist() == [labels[o] for o in files_of(learn.dls.train_ds)]
    assert grad_cam(learn, files_of(learn.dls.valid_ds)[0]).ndim == 2


def test_another_table_is_another_run(path, table, tmp_path):
    for n, t in enumerate([table, table.assign(name=table.name[::-1].values)]):
        learn = learner(from_df(valid_col='valid')(path, t))
        run = lambda: learn.fit(1, cbs=Resumable(tmp_path/'run.pth'))
        if n: assert 'belongs to another run' in said(run)
        else: run()


def test_folders_that_are_called_as_numbers_are_judged(path, table, tmp_path):
    for o in find_photos(path):
        (dest := tmp_path/'photos'/str(CLASSES.index(class_of(o)))).mkdir(parents=True, exist_ok=True)
        shutil.copy(o, dest)
    learn = learner(numbered(path, table))
    export_classifier(learn, tmp_path/'model')
    ours = evaluate(load_classifier(tmp_path/'model'), tmp_path/'photos')
    wrong = sum(learn.predict(o)[0] != str(CLASSES.index(class_of(o))) for o in find_photos(path))
    assert (ours.n, ours.n_wrong) == (24, wrong)


def test_labels_that_are_no_folders_are_said(path, tmp_path):
    (tmp_path/'all/images').mkdir(parents=True)
    for o in find_photos(path): shutil.copy(o, tmp_path/'all/images'/f'{class_of(o)}_{o.name}')
    files = get_image_files(tmp_path/'all')
    learn = learner(ImageDataLoaders.from_name_func(tmp_path/'all', files, lambda o: o.split('_')[0], **KW))
    assert set(predictions_table(interpret(learn)).actual) <= set(CLASSES)
    for f in find_issues, CleaningLoop: assert 'are not the folders of' in said(f, learn)
    assert len(find_issues(learn, path)) == 24  # another folder may be looked at with the same body


def test_an_empty_cell_for_a_label_is_no_matter_where_folders_count(path, table):
    empty = table.assign(label=table.label.where(table.index != 0))
    assert len(find_issues(learner(from_df()(path, empty)), path)) == 24


@pytest.mark.parametrize('get_y, words', [
    (lambda o: None, 'no label'), (lambda o: None if 'teddy' in str(o) else 'bear', 'no label'),
    (lambda o: float('nan'), 'no label'),
    (lambda o: 0 if class_of(o) == 'teddy' else 'bear', 'int and str'), (lambda o: [class_of(o)], 'MultiCategoryBlock'),
    (lambda o: (class_of(o), 1), 'MultiCategoryBlock'), (lambda o: {class_of(o): 1}, 'dict')])
def test_labels_that_cannot_be_are_one_sentence(path, get_y, words):
    assert words in said(photo_dls, path, 64, get_y=get_y)


# Labels from names

@pytest.mark.parametrize('pattern, name, label', [
    (r'^(.+)_\d+', 'Abyssinian_1.jpg', 'Abyssinian'), (r'^(.+)_\d+', 'great_pyrenees_32.jpg', 'great_pyrenees'),
    (r'(\d+)', 'sub_7/bear_12.png', '12'), (re.compile('^(CAT|dog)', re.I), 'cat.0.jpg', 'cat'),
    ('^(й)', unicodedata.normalize('NFD', 'й_1.jpg'), 'й')])
def test_the_first_group_in_the_name_alone_is_the_label(pattern, name, label):
    for f in (f := labels_from_names(pattern)), pickle.loads(pickle.dumps(f, 2)):
        assert f(name) == f(Path('x_9')/name) == label


@pytest.mark.parametrize('pattern', [r'.+_\d+', '(?:a)', '(', 'a{99999999999999999999}(b)', '(?<=a+)(b)', '', None, 5,
                                     b'(a)'])
def test_a_pattern_that_cannot_be_is_said_at_once(pattern):
    assert "such as '^(.+)_\\d+'." in said(labels_from_names, pattern)


@pytest.mark.parametrize('pattern', [r'^(.+)_\d+', '^()', '(x)?IMG'])
def test_a_name_that_does_not_fit_is_named_with_the_pattern(pattern, tmp_path):
    text = said(f := labels_from_names(pattern), tmp_path/'IMG 0.jpg')
    assert 'IMG 0.jpg' in text and repr(pattern) in text and str(tmp_path) not in text
    for i in range(2): Image.new('RGB', (9, 9), (i, 0, 0)).save(tmp_path/f'IMG {i}.jpg')
    assert said(photo_dls, tmp_path, get_y=f) == said(lambda: photo_block(get_y=f).dataloaders(tmp_path)) == text


def test_a_model_with_labels_from_names_opens_everywhere(path, tmp_path):
    (tmp_path/'all').mkdir()
    for o in find_photos(path): shutil.copy(o, tmp_path/f'all/{class_of(o)}_{o.name}')
    learn = learner(photo_dls(tmp_path/'all', 64, get_y=labels_from_names('^([a-z]+)_'), num_workers=0))
    assert list(learn.dls.vocab) == CLASSES
    (export_classifier(learn, tmp_path/'ours')).rename(tmp_path/'alone.pkl')
    learn.export(tmp_path/'plain.pkl')
    expected = answer(learn, file := find_photos(path)[4])
    for o in 'ours', 'alone.pkl', 'plain.pkl':
        said = load_classifier(tmp_path/o)(file)
        assert [said.probabilities[k] for k in CLASSES] == pytest.approx(expected.tolist(), abs=2e-3)
    code = (f"from fastai.vision.all import load_learner; learn = load_learner({str(tmp_path/'plain.pkl')!r}); "
            f"print(learn.predict({str(file)!r})[2].tolist())")
    res = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True)
    assert res.returncode == 0, res.stderr
    assert json.loads(res.stdout.strip().splitlines()[-1]) == pytest.approx(expected.tolist(), abs=1e-4)


# Several labels, numbers, points

def points(path, t):
    block = DataBlock((ImageBlock, PointBlock), get_items=get_image_files, get_y=lambda o: tensor([[3., 4.]]),
                      item_tfms=Resize(64))
    return block.dataloaders(path, num_workers=0, bs=8)
OTHER = {
    'from_df': (from_df('tags', label_delim=' '), 'several'),
    'photo_dls': (lambda path, t: photo_dls(path, 64, blocks=(PhotoBlock, MultiCategoryBlock),
                                            get_y=lambda o: [class_of(o), 'bear'], num_workers=0), 'several'),
    'regression': (from_df('size', y_block=RegressionBlock), 'numbers'), 'points': (points, 'numbers'),
}


@pytest.mark.parametrize('name', list(OTHER))
def test_what_is_not_one_class_trains_and_is_told(name, path, table, tmp_path):
    make, words = OTHER[name]
    learn = learner(make(path, table), **({'n_out': 2} if name == 'points' else {}))
    fit_photos(learn, 1)
    assert len(learn.recorder.values[0]) == 2 + (words == 'several') and learn.predict(find_photos(path)[0])
    learn.export(tmp_path/'export.pkl')
    calls = [(find_issues, learn), (find_issues, learn, path), (CleaningLoop, learn, path),
             (export_classifier, learn, tmp_path/'model'),
             (load_classifier, tmp_path, True), (fit_head, learn), (class_weights, learn.dls),
             (oversampled, learn.dls), (lambda: predictions_table(interpret(learn)),),
             (lambda: top_losses_table(interpret(learn)),), (lambda: what_looks_wrong(learn),)]
    for f, *args in calls:
        text = said(f, *args)
        assert words in text and 'learn.predict' in text
    assert not (tmp_path/'model').exists()
    if words == 'several': assert show_cam(learn, find_photos(path)[0]).get_title()
    else: assert words in said(grad_cam, learn, find_photos(path)[0])


# Grey

def test_a_model_of_one_channel_from_end_to_end(path, file, tmp_path):
    grey = dict(blocks=(ImageBlock(cls=PILImageBW), CategoryBlock), num_workers=0)
    learn = train_photos(path, 'squeezenet1_0', 1, 64, pretrained=False, **grey)
    assert next(learn.model.parameters()).shape[1] == 1
    head = precomputed_learner(path, 'squeezenet1_0', 64, pretrained=False, **grey)
    for o in learn, head:
        export_classifier(o, tmp_path/'model')
        clf = load_classifier(tmp_path/'model', trust=True)
        expected = answer(o, file)
        for f in [*WAYS.values(), *GREY.values()]: assert same(answer(clf.learn, f(file)), expected)
        assert [clf(file).probabilities[k] for k in clf.classes] == pytest.approx(expected.tolist(), abs=1e-5)
        assert clf.learn.dls.test_dl([file]).one_batch()[0].shape == (1, 1, 64, 64)
        portable = load_classifier(tmp_path/'model')(file).probabilities
        assert [portable[k] for k in clf.classes] == pytest.approx(expected.tolist(), abs=.01)
    assert evaluate(clf, path).n == 24
    again = CleaningLoop(head, path).retrain()
    assert next(again.model.parameters()).shape[1] == 1


def test_an_n_in_of_ones_own_stays(path):
    dls = ImageDataLoaders.from_folder(path, valid_pct=.3, img_cls=PILImageBW, **KW)
    learn = vision_learner(dls, 'resnet18', n_in=1, pretrained=False)
    assert len(find_issues(learn, path)) == 24
    dls = photo_dls(path, 64, num_workers=0)
    with pytest.raises(RuntimeError): learner(dls, n_in=1).predict(find_photos(path)[0])
