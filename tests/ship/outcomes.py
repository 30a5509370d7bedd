"Pictures of which a model says all that it can say, and what the page says of them, for several browsers"
from PIL import Image

from bearclf.practice.drawn import draw_bear

# Of each answer on the page, the newest first: its heading, and class -> probability as its bars show it
CARDS = '''[...document.querySelectorAll('#list > li')].map((o) => ({ text: o.innerText.trim(), refused: o.className,
    heading: o.querySelector('h2') ? o.querySelector('h2').innerText : '', label: (o.querySelector('b') || o).innerText,
    bars: Object.fromEntries([...o.querySelectorAll('.bearclf-bars li')].map((e) =>
        [e.querySelector('.name').textContent, parseFloat(e.querySelector('i').style.width) / 100])) }))'''

def doubtful(folder):
    "Files with drawn bears, with what lies between two of them, and with noise"
    bear = lambda kind, seed: draw_bear(kind, seed, 224).convert('RGB')
    between = lambda seed, k: Image.blend(bear('black', seed), bear('grizzly', seed), k)
    ims = [*(bear(o, 7) for o in ('black', 'grizzly', 'teddy')), *(between(i, k) for i in range(6) for k in (.4, .5)),
           *(Image.effect_noise((300, 200), o).convert('RGB') for o in (30, 80))]
    files = [folder/f'{i}.png' for i in range(len(ims))]
    for im, o in zip(ims, files): im.save(o)
    return files

def outcome(pred): return 'unlike' if pred.familiar is False else 'looks_like' if pred.sure else 'perhaps'

def agree(cards, preds):
    "Assert that the page, in English, says what Python says, and that this is of all three kinds"
    says = dict(unlike='I have not seen anything like this', looks_like='This looks like', perhaps='I am not sure')
    assert {*map(outcome, preds)} == {*says} and len(cards) == len(preds) >= 12
    for card, pred in zip(cards, preds):
        assert card['heading'].startswith(says[outcome(pred)]) and card['label'] == pred.label, (card, pred)
        assert all(abs(pred.probabilities[k] - p) < .001 for k, p in card['bars'].items())
        assert bool(card['bars']) == (pred.familiar is not False)
