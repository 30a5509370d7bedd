"An export.pkl that is whole, except that one part of it would take time or memory for ever: a sentence, before that"
import os, struct, sys, zipfile
from pathlib import Path

import pytest

from bearclf.core import error_text
from bearclf.ship.pickled import Name, Numbers, Pairs, Record, Stored, _at, _children, _entries, convert, fields, listed
from bearclf.ship.pickled import read_pickle

real = Path(__file__).with_name('fastai28.pkl').read_bytes()
found = _entries(bytearray(real))


def program(o, memo):
    "The steps of a pickle that make the records `o` again"
    if id(o) in memo: return b'j' + struct.pack('<I', memo[id(o)][0])
    def kept(begin, *rest):
        memo[id(o)] = n, _ = len(memo), o  # which has to stay, so that no other one gets its id
        rest = [x if type(x) is bytes else program(x, memo) for x in rest]
        return begin + b'r' + struct.pack('<I', n) + b''.join(rest)
    flat = lambda items: [x for kv in items for x in kv]
    if o is None or type(o) is bool: return {None: b'N', True: b'\x88', False: b'\x89'}[o]
    if type(o) is int: return b'\x8a\x09' + o.to_bytes(9, 'little', signed=True)
    if type(o) is float: return b'G' + struct.pack('>d', o)
    if type(o) is Name: return b'c' + '\n'.join(o.rsplit('.', 1)).encode() + b'\n'
    if type(o) is str: return b'X' + struct.pack('<I', len(o.encode())) + o.encode()
    if type(o) is tuple: return kept(b'(' + b''.join(program(x, memo) for x in o) + b't')
    if type(o) is list: return kept(b']', b'(', *o, b'e')
    if type(o) is Pairs: return kept(b'}', b'(', *flat(o.items), b'u')
    if type(o) is Stored:
        key = next(k for k, v in found.items() if v == (o.first, o.last)).removeprefix('data/')
        kind = {'float32': 'Float', 'int64': 'Long'}[o.kind]
        parts = 'storage', Name(f'torch.{kind}Storage'), key, 'cpu', o.n
        return b'(' + b''.join(program(x, memo) for x in parts) + b'tQ'
    if type(o) is Numbers:
        args = (o.stored, o.offset, o.shape, o.strides, False, None)
        return kept(program(Name('torch._utils._rebuild_tensor_v2'), memo) + program(args, memo) + b'R')
    pairs = o.items and all(type(x) is tuple and len(x) == 2 for x in o.items)
    items = [b'(', *(flat(o.items) if pairs else o.items), b'u' if pairs else b'e'] if o.items else []
    return kept(program(o.what, memo) + program(o.args, memo) + b'R', *items, *[x for s in o.state for x in (s, b'b')])


def whole(learn, folder):
    "Write the records `learn` as an export.pkl into the `folder`"
    with zipfile.ZipFile(folder/'export.pkl', 'w') as z:
        z.writestr('export/data.pkl', b'\x80\2' + program(learn, {}) + b'.')
        for k, (a, b) in found.items(): k == 'data.pkl' or z.writestr(f'export/{k}', real[a:b])


def part(what, **settings):
    o, pairs = Record(Name(what)), Pairs()
    pairs.items, o.state = [*settings.items()], [pairs]
    return o

def put(o, **settings): o.state.append(part('', **settings).state[0])
def tfms(learn, when): return fields(listed(_at(learn, 'dls', 'loaders'))[1])[when]
def after(learn, *more): fields(fields(tfms(learn, 'after_batch'))['fs'])['items'].extend(more)
def layers(learn): return fields(_at(learn, 'model'))['_modules'].items

def tuples(learn):
    t = 1
    for _ in range(12): t = (t, t, t, t)
    put(layers(learn)[2][1], start_dim=t)

def states(learn): layers(learn)[2][1].state.append((part('', **{f'k{i}': 0 for i in range(300)}).state[0],)*300)

def norm(learn):
    t = Numbers(dict(fields(layers(learn)[3][1])['_parameters'].items)['bias'].stored, 0, (2**20,), (0,))
    after(learn, part('fastai.data.transforms.Normalize', mean=t, std=t))

def zooms(learn): after(learn, *[part('fastai.vision.augment.Zoom', size=2048, mode='bilinear', pad_mode='zeros')]*40)
def padding(learn): put(listed(_at(tfms(learn, 'after_item'), 'fs'))[0], method='pad', pad_mode=part('os.system'))
def same(learn):
    put(_children(layers(learn)[0][1])[0][1], padding='same', padding_mode='replicate', dilation=(9000, 9000))

def dag(learn): [layers(learn).insert(2, (f'x{i}', _at(learn, 'model'))) for i in range(2)]
def hook(learn): put(layers(learn)[2][1], _forward_hooks=[Name('os.system')])

def pools(learn):
    o = part('torch.nn.modules.pooling.MaxPool2d', **fields(layers(learn)[2][1]))
    put(o, kernel_size=999, stride=1, padding=499, dilation=1, return_indices=False, ceil_mode=False)
    layers(learn)[1:1] = [(f'p{i}', o) for i in range(250)]


@pytest.mark.parametrize('change, said', {
    tuples: 'a layer has an odd setting', states: 'a part is odd', norm: 'its normalisation is odd',
    zooms: 'it has too many transforms', padding: 'a transform is odd', same: 'a layer has an odd setting',
    dag: 'its layers are nested too deep', pools: 'its net needs too much memory or time',
    hook: 'there is a hook at model.2'}.items())
def test_one_sentence(change, said, tmp_path):
    learn = read_pickle(real[slice(*found['data.pkl'])], found)
    change(learn)
    whole(learn, tmp_path)
    text = error_text(convert, tmp_path/'export.pkl', tmp_path/'out')
    assert said in text and '\n' not in text


def test_without_a_change_it_is_read(tmp_path):
    learn = read_pickle(real[slice(*found['data.pkl'])], found)
    put(learn, arch=part('os.system'))  # asked about only where the net has a body and a head
    whole(learn, tmp_path)
    assert convert(tmp_path/'export.pkl', tmp_path/'out').exists()


@pytest.mark.skipif(sys.platform == 'win32', reason='no pipes there')
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path/'export.pkl')
    assert 'is a link, a folder or a device' in error_text(convert, tmp_path/'export.pkl', tmp_path/'out')
