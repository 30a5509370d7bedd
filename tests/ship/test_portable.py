"A portable model may come from anybody: photos become what fastai makes of them, and what was crafted is told"
import hashlib, json, math, sys, warnings

import numpy as np
import pytest
from PIL import Image

with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    from fastai.vision.all import CropPad, PILImage, PILImageBW, RandomResizedCrop, Resize
from bearclf.core import error_text
from bearclf.ship.page import answer_html
from bearclf.ship.portable import PortableClassifier, apply_steps, as_array, check_portable, read_portable
from bearclf.ship.predict import evaluate, load_classifier
from bearclf.ship.site import portable_parts
from bearclf.practice.drawn import draw_bears
from crafted_onnx import FACTS, ask_all, crafted, good
from helpers import python


# --- photos

def middle(h, w):
    "What `RandomResizedCrop` does at validation"
    more = math.ceil(max(h, w)*.14/8)*8
    return [dict(do='squish', size=[h + more, w + more]), dict(do='center', size=[h, w])]

PADS = 'zeros', 'border', 'reflection'
WAYS = dict(squish=(lambda o: Resize(o, 'squish'), lambda *o: [dict(do='squish', size=[*o])]),
            crop=(lambda o: Resize(o, 'crop'), lambda *o: [dict(do='crop', size=[*o])]), middle=(RandomResizedCrop,
                middle))
for p in PADS:
    as_step = lambda do, p=p: lambda *o: [dict(do=do, size=[*o], pad_mode=p)]
    WAYS[f'pad {p}'] = lambda o, p=p: Resize(o, 'pad', pad_mode=p), as_step('pad')
    WAYS[f'center {p}'] = lambda o, p=p: CropPad(o, pad_mode=p), as_step('center')

@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('kind', [PILImage, PILImageBW])
def test_every_pixel_is_fastais(way, kind):
    rng, (tfm, steps) = np.random.default_rng(0), WAYS[way]
    for h, w in (2, 3), (7, 90), (90, 7), (33, 61), (64, 64), (65, 63), (201, 300):
        im = Image.fromarray(rng.integers(0, 256, (h, w, 3) if kind is PILImage else (h, w)).astype('uint8'))
        for size in (32, 32), (33, 64), (97, 20):
            if way == 'crop' and min(h/size[0], w/size[1])*min(size) < 1: continue  # fastai cuts out nothing then
            t = tfm(size)
            theirs = t(kind(im)) if isinstance(t, CropPad) else t(kind(im), split_idx=1)
            assert np.array_equal(np.asarray(theirs), np.asarray(apply_steps(im, steps(*size)))), (h, w, size)

def test_colours_lie_between_0_and_1():
    x = as_array(Image.new('RGB', (4, 3), (0, 51, 255)))
    assert x.shape == (3, 3, 4) and x.dtype == np.float32 and x[:, 0, 0].tolist() == [0, np.float32(.2), 1]
    assert as_array(Image.new('L', (4, 3), 255)).tolist() == [[[1]*4]*3]


# --- answers

def place(folder, facts=FACTS, **kw):
    data = good(**kw).SerializeToString()
    folder.mkdir()
    (folder/'export.onnx').write_bytes(data)
    own = facts['portable'] | dict(sha256=hashlib.sha256(data).hexdigest())
    (folder/'export.json').write_text(json.dumps(facts | dict(portable=own)))
    return folder

def test_a_good_model_answers(tmp_path):
    "Alone and among many; and a path of any kind leads to it"
    clf, red = load_classifier(place(tmp_path/'m')), Image.new('RGB', (50, 40), 'red')
    said, weight = clf(red), math.exp(10)
    assert said.label == 'a' and said.probability == pytest.approx(weight/(weight + 2))
    assert said.familiar is None and said.sure
    assert clf.many([red]*70) == [said]*70 == read_portable(tmp_path/'m/export.onnx').many([red]*70)
    grey = clf(Image.new('RGB', (50, 40), 'grey'))
    assert not grey.sure and str(grey) == 'not sure; perhaps a (33.3%)'
    assert 'trust=True' in error_text(getattr, clf, 'learn')
    assert '.pkl' in error_text(load_classifier, tmp_path/'m', trust=True)

def test_what_was_learned_from_is_told(tmp_path):
    from bearclf.photo import fingerprint
    draw_bears(tmp_path/'bears', 6, 48)
    files = sorted(tmp_path.glob('bears/*/*.jpg'))
    seen = ''.join(fingerprint(o)[:8] for o in files[:2])
    facts = FACTS | dict(classes=['black', 'grizzly', 'teddy'], portable=FACTS['portable'] | dict(learned_from=seen))
    res = evaluate(load_classifier(place(tmp_path/'m', facts)), tmp_path/'bears')
    assert (res.n, res.learned_from) == (6, 2)

def test_the_bytes_that_were_checked_are_used(tmp_path):
    "What is computed holds nothing else than what was looked at"
    data = good().SerializeToString()
    model = check_portable(data + b'\xa2\x1f\x03abc', FACTS)  # a field that nobody knows
    assert b'abc' not in model and PortableClassifier(model, FACTS)(Image.new('RGB', (9, 9))).label == 'a'

def test_neither_torch_nor_fastai(tmp_path):
    said = python(f'''import sys
from PIL import Image
from bearclf.ship.predict import load_classifier
print(load_classifier({str(place(tmp_path/"m"))!r})(Image.new("RGB", (9, 9), "red")).label)
print({{o.split(".")[0] for o in sys.modules}} & {{"torch", "fastai", "torchvision", "timm", "pandas", "scipy"}})''')
    assert said == 'a\nset()\n'


# --- what was crafted

@pytest.mark.skipif(sys.platform == 'win32', reason='no pipes and links there')
def test_what_was_crafted_is_told_in_a_sentence(child, tmp_path):
    names = crafted(tmp_path)
    place(tmp_path/'good')
    assert len(names) > 150
    res = child(ask_all, tmp_path, names).finish()
    said = {o[0]: o[1:] for o in map(json.loads, res.stdout.splitlines())}
    assert [*said] == names, f'it died at {names[len(said)]}: {res.stderr[-500:]}'
    assert {k: v for k, (v, *_) in said.items() if v[:2] != '! ' or '\n' in v or len(v) > 400} == {}
    assert {k: o for k, (_, *o, _) in said.items() if o[0] > 2 or o[1] > 200} == {}
    assert {k: o for k, (*_, o) in said.items() if o} == {}

@pytest.mark.parametrize('said, sure', [({}, False), (dict(unsure_below=None), False), (dict(unsure_below=0), True)],
                         ids=str)
def test_where_nobody_has_said_below_what_it_is_not_sure(tmp_path, said, sure):
    "Python, the page under Voilà and the page without a server have the same rule"
    facts = {k: v for k, v in FACTS.items() if k != 'unsure_below'} | said
    pred = load_classifier(place(tmp_path/'m', facts))(Image.new('RGB', (50, 40), 'grey'))
    assert pred.sure == sure and ('Perhaps' not in answer_html(pred)) == sure
    assert (pred.probability >= portable_parts(tmp_path/'m')[0]['unsure_below']) == sure
