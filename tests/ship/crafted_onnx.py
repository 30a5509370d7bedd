"""Folders with a portable model that somebody has crafted: `crafted(folder)` writes them, a folder each

What is wrong is in the file's own bytes; the hash beside it is right, unless that is what is wrong."""
import copy, hashlib, json, os, struct
from functools import reduce

import numpy as np
from onnx import AttributeProto, TensorProto as T, helper, numpy_helper

from bearclf.ship.portable import OPERATORS

FACTS = dict(classes=['a', 'b', 'c'], n_photos=9, n_wrong=1, n_valid=3, error_rate=.33, interval=[.1, .5],
    arch='tiny',
             unsure_below=.6, versions={'python': '3.11'}, portable=dict(
                 weights='float32', mode='RGB', steps=[dict(do='squish', size=[32, 32])], temperature=1.,
                     near_limit=None))


def good(nodes=None, weights=(), photo=('n', 3, 32, 32), out=('n', 3), opset=18, name='photo', kind=T.FLOAT):
    "A model that is read"
    ends = [helper.make_tensor_value_info(name, kind, photo), helper.make_tensor_value_info('probability', kind, out)]
    n = helper.make_node
    nodes = nodes or [n('GlobalAveragePool', ['photo'], ['m']), n('Flatten', ['m'], ['f']), n('Mul', ['f', 'ten'],
        ['t']),
                      n('Softmax', ['t'], ['probability'])]
    weights = [numpy_helper.from_array(np.float32(10), 'ten'), *weights]
    g = helper.make_graph(nodes, 'g', ends[:1], ends[1:], weights)
    return helper.make_model(g, opset_imports=[helper.make_opsetid('', opset)], ir_version=8)

def before(*nodes, weights=()):
    "The good model, with the `nodes` between the photo and the rest; the last one gives `x`"
    m = good(weights=weights)
    rest = copy.deepcopy(list(m.graph.node))
    rest[0].input[0] = 'x'
    del m.graph.node[:]
    m.graph.node.extend([*nodes, *rest])
    return m

def ints(name, *values): return numpy_helper.from_array(np.array(values, 'int64'), name)
def floats(name, *shape): return numpy_helper.from_array(np.zeros(shape, 'float32'), name)
def node(op, ins='photo', outs='x', **kw): return helper.make_node(op, ins.split(), outs.split(), **kw)


def changed(f):
    m = good()
    f(m)
    return m

def outside(where):
    "The weight, which is said to lie in another file"
    def f(m):
        t = m.graph.initializer[0]
        t.ClearField('raw_data')
        t.data_location = T.EXTERNAL
        for k, v in dict(location=where, offset='0', length='4').items(): t.external_data.add(key=k, value=v)
    return f

def attribute(name, **kw):
    def f(m):
        a = m.graph.node[0].attribute.add(name=name)
        for k, v in kw.items():
            if k in ('t', 'g', 'sparse_tensor', 'tp'): getattr(a, k).CopyFrom(v)
            elif isinstance(v, list): getattr(a, k).extend(v)
            else: setattr(a, k, v)
    return f


def structures():
    "name -> model with something in it that should not be there"
    away = changed(outside('secret')).graph.initializer[0]
    g, sparse = good().graph, helper.make_sparse_tensor(floats('v', 1), ints('i', 0), [4])
    yield from {f'external-{i}': changed(outside(o)) for i, o in enumerate([
        'secret', '../secret', '/etc/passwd', '*/_ORT_MEM_ADDR_/*', '', 'link', 'file:///etc/passwd', 'C:\\x', '\0',
        'a/../../secret', '/proc/self/mem', '/dev/zero'])}.items()
    yield 'external-not-said', changed(lambda m: m.graph.initializer[0].external_data.add(key='location',
        value='secret'))
    yield 'external-flag', changed(lambda m: setattr(m.graph.initializer[0], 'data_location', 1))
    yield 'external-attribute', changed(attribute('value', type=AttributeProto.TENSOR, t=away))
    yield 'external-constant', before(node('Constant', '', 'c', value=away), node('Add', 'photo c'))
    yield 'external-tensors', changed(attribute('value', type=AttributeProto.TENSORS, tensors=[away]))
    yield 'external-sparse', changed(lambda m: m.graph.sparse_initializer.append(sparse))
    yield 'sparse-attribute', changed(attribute('value', type=AttributeProto.SPARSE_TENSOR, sparse_tensor=sparse))
    yield 'subgraph', changed(attribute('body', type=AttributeProto.GRAPH, g=g))
    yield 'subgraphs', changed(attribute('body', type=AttributeProto.GRAPHS, graphs=[g, g]))
    yield 'type', changed(attribute('x', type=AttributeProto.TYPE_PROTO, tp=g.input[0].type))
    yield 'reference', changed(attribute('x', ref_attr_name='y', type=AttributeProto.INT))
    def training(m): m.training_info.add().algorithm.CopyFrom(g)
    def function(m): m.functions.add(name='f', domain='')
    def settings(m): m.metadata_props.add(key='ort_config', value='{"session_options": {}}')
    def shadow(m): m.graph.input.append(helper.make_tensor_value_info('ten', T.FLOAT, []))
    def quantized(m): m.graph.quantization_annotation.add(tensor_name='ten')
    def values(m): m.graph.value_info.append(helper.make_tensor_value_info('f', T.FLOAT, ['n', 10**9]))
    yield from {o.__name__: changed(o) for o in (training, function, settings, shadow, quantized)}.items()
    for field, o in dict(float_data=1., int32_data=1, int64_data=1, double_data=1., uint64_data=1,
        string_data=b'x').items():
        yield field, changed(lambda m: getattr(m.graph.initializer[0], field).append(o))
    yield 'segment', changed(lambda m: setattr(m.graph.initializer[0].segment, 'end', 9))
    yield 'domain', changed(lambda m: m.opset_import.append(helper.make_opsetid('com.microsoft', 1)))
    yield 'other-domain', changed(lambda m: setattr(m.opset_import[0], 'domain', 'ai.onnx.ml'))
    yield from {f'opset-{o}': good(opset=o) for o in (-1, 0, 1, 12, 24, 2**40)}.items()
    yield 'no-opset', changed(lambda m: m.ClearField('opset_import'))
    yield 'node-domain', changed(lambda m: setattr(m.graph.node[0], 'domain', 'com.microsoft'))
    names = '''If Loop Scan SequenceMap Optional RandomNormal RandomUniform Multinomial ConstantOfShape Tile Resize Range
        NonZero StringNormalizer TfIdfVectorizer RegexFullMatch ImageDecoder LSTM Einsum GridSample OneHot Upsample
        EyeLike CumSum Compress SequenceInsert PyOp FusedConv'''.split()
    for o in names + ['', 'add', 'Add ', '\x1b[2J', '..', 'A'*9999]:
        assert o not in OPERATORS
        called = o[:20].strip().replace('\x1b[2J', 'cursor').replace('..', 'dots')
        yield f'operator-{called or len(o)}', before(node(o))


def numbers():
    "name -> model with numbers in it that are none, or that ask for too much"
    def weight(**kw):
        def f(m):
            for k, v in kw.items():
                o = m.graph.initializer[0]
                o.dims.extend(v) if k == 'dims' else setattr(o, k, v)
        return changed(f)
    yield from {f'dims-{i}': weight(dims=o) for i, o in enumerate([
        [2], [10**12], [2**62, 4], [-1], [-1, -1], [1 << 62]*8, [1]*9, [0], [2**31], [2**32 + 1]])}.items()
    yield from {f'type-{o}': weight(data_type=o) for o in (0, 4, 5, 8, 11, 12, 14, 16, 17, 21, 99, -1,
        2**31 - 1)}.items()
    yield 'short', weight(raw_data=b'123')
    yield 'long', weight(raw_data=b'x'*400)
    for k in 'strides', 'dilations', 'kernel_shape':
        for i, o in enumerate(([0, 0], [-1, 1], [2**62, 1], [10**6, 10**6], [1]*9)):
            kw = dict(kernel_shape=[1, 1]) | {k: o}
            yield f'pool-{k}-{i}', before(node('MaxPool', **kw))
            yield f'conv-{k}-{i}', before(node('Conv', 'photo w', **kw), weights=[floats('w', 3, 3, 1, 1)])
    yield from {f'group-{o}': before(node('Conv', 'photo w', group=o), weights=[floats('w', 3, 3, 1, 1)])
                for o in (0, -1, 2, 2**62)}.items()
    yield 'pads', before(node('AveragePool', kernel_shape=[99_999, 99_999], pads=[50_000]*4))
    wide = [floats('w', 30_000, 3, 1, 1)]
    yield 'conv-terabyte', before(node('Conv', 'photo w'), weights=wide)
    yield 'pad-terabyte', before(node('Pad', 'photo p'), weights=[ints('p', 0, 0, 0, 0, 0, 0, 10**6, 10**6)])
    yield 'expand-terabyte', before(node('Expand', 'photo p'), weights=[ints('p', 10**6, 3, 10**3, 10**3)])
    yield 'expand-constant', before(node('Expand', 'ten p', 'e'), node('ReduceMean', 'e', 'r'), node('Add',
        'photo r'),
                                    weights=[ints('p', 10**4, 10**3)])
    yield 'reshape', before(node('Reshape', 'photo p'), weights=[ints('p', 2**62, 4)])
    yield 'reshape-photo', before(node('Cast', 'photo', 'i', to=T.INT64), node('Reshape', 'photo i'))
    doubling = [node('Concat', f'x{i} x{i}', f'x{i + 1}', axis=0) for i in range(60)]
    yield 'doubling', before(node('Shape', 'photo', 'x0'), *doubling, node('Reshape', 'photo x60'))
    yield 'doubling-photo', before(node('Identity', 'photo', 'x0'), *doubling, node('Identity', 'x60'))
    yield 'outer', before(node('Reshape', 'photo a', 'l'), node('Reshape', 'photo b', 'r'), node('Mul', 'l r'),
                          weights=[ints('a', 3072, 1), ints('b', 1, 3072)])
    yield 'outer-twice', before(node('Reshape', 'photo a', 'l'), node('Reshape', 'photo b', 'r'), node('Mul',
        'l r', 'y'),
                                node('MatMul', 'y y', 'z'), node('MatMul', 'z y', 'u'), node('MatMul', 'u y', 'x'),
                                weights=[ints('a', 3072, 1), ints('b', 1, 3072)])
    yield 'work', before(*[node('Conv', 'photo w' if i == 0 else f'c{i} v', f'c{i + 1}', pads=[15]*4,
        kernel_shape=[31, 31])
                           for i in range(40)], node('Identity', 'c40'),
                         weights=[floats('w', 32, 3, 31, 31), floats('v', 32, 32, 31, 31)])
    yield 'many', before(*[node('Relu', f'y{i}' if i else 'photo', f'y{i + 1}') for i in range(4100)],
        node('Relu', 'y4100'))
    yield 'axis', before(node('Softmax', axis=99))
    yield 'permutation', before(node('Transpose', perm=[0, 0, 7, -3]))
    yield 'cycle', before(node('Add', 'photo y', 'z'), node('Add', 'photo z', 'y'), node('Relu', 'y'))
    yield 'missing', before(node('Add', 'photo nobody'))
    yield 'twice', before(node('Relu'), node('Relu'))
    yield 'arity', before(node('Conv', 'photo'))
    yield 'split', before(node('Split', 'photo', 'x y', num_outputs=10**5, axis=1))
    yield 'slice', before(node('Slice', 'photo a b c d'), weights=[ints('a', 0), ints('b', 2**62), ints('c', 9),
        ints('d', 0)])
    yield 'top', before(node('TopK', 'photo k', 'x i'), weights=[ints('k', 10**12)])
    grown = [node('Unsqueeze', 'photo m', 'p'), node('Expand', 'p e', 'q'), node('Reshape', 'q r', 'y0')]
    sizes = [ints('m', -1), ints('e', 1, 1, 1, 1, 5000), ints('r', 0, 3, 32, -1), ints('k', 32*5000)]
    yield 'top-all', before(*grown, node('TopK', 'y0 k', 'x i'), weights=sizes)
    yield 'as-text', before(node('Cast', 'photo', 's', to=T.STRING), node('Cast', 's', to=T.FLOAT))
    yield 'slow', before(*grown, *[node('Erf', f'y{i}', f'y{i + 1}') for i in range(500)], node('Relu', 'y500'),
                         weights=sizes)
    yield 'no-bias', before(node('Conv', 'photo w nowhere'), weights=[floats('w', 3, 3, 1, 1)])


def ends():
    yield 'name', good(nodes=[node('GlobalAveragePool', 'image', 'm'), node('Flatten', 'm', 'probability')],
        name='image')
    yield from {f'photo-{i}': good(photo=o) for i, o in enumerate([
            ('n', 3, 31, 32), ('n', 1, 32, 32), (1, 3, 32, 32), ('n', 3, 'h', 'w'), ('n', 3, 32), (), ('n', 3,
                -32, -32),
            ('n', 3, 2**40, 2**40), ('n', 32, 32, 3), (2**31, 3, 32, 32)])}.items()
    yield from {f'kind-{o}': good(kind=o) for o in (T.DOUBLE, T.STRING, T.UINT8, T.FLOAT16)}.items()
    yield 'width', before(node('Concat', 'photo photo', axis=1))
    yield 'no-input', changed(lambda m: m.graph.ClearField('input'))
    yield 'no-output', changed(lambda m: m.graph.ClearField('output'))
    yield 'no-graph', changed(lambda m: m.ClearField('graph'))
    yield 'two-outputs', changed(lambda m: m.graph.output.append(m.graph.output[0]))
    yield 'near', changed(lambda m: m.graph.output.append(helper.make_tensor_value_info('near', T.FLOAT, ['n'])))
    yield 'near-wide', changed(lambda m: (m.graph.node.append(node('Relu', 't', 'near')), m.graph.output.append(
        helper.make_tensor_value_info('near', T.FLOAT, ['n', 3]))))


def raw():
    "name -> bytes that are no model, or more than they seem"
    data = good().SerializeToString()
    yield from {f'cut-{i}': data[:i] for i in (1, 2, 9, len(data)//2, len(data) - 1)}.items()
    yield from dict(empty=b'', zeros=b'\0'*1000, text=b'a model', zip=b'PK\3\4' + b'\0'*60, pickle=b'\x80\4K\1.',
                    backwards=data[::-1], twice=data*2, html=b'<html>', ff=b'\xff'*5000).items()
    def message(k, body):
        def varint(n):
            out = b''
            while n > 127: out, n = out + bytes([n & 127 | 128]), n >> 7
            return out + bytes([n])
        return varint(k << 3 | 2) + varint(len(body)) + body
    yield 'empty-nodes', message(7, b'\n\0'*2_000_000)
    yield 'empty-functions', message(25, b'')*2_000_000
    yield 'empty-attributes', message(7, message(1, b'\x2a\0'*1_000_000))
    yield 'deep', reduce(lambda o, _: message(7, message(1, message(5, message(6, o)))), range(300), b'')
    yield 'length', b'\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f' + data
    yield 'group', b'\x3b' + data
    yield 'large', bytes(30_000_000)
    yield 'unknown-field', data + message(500, b'x'*2_000_000)
    yield 'weights-twice', message(7, message(5, message(9, bytes(9)) + message(9, bytes(9)))) + data


def facts():
    "name -> text in place of the JSON"
    own = FACTS['portable']
    def with_(**kw): return json.dumps(FACTS | kw)
    def in_(**kw): return with_(portable=own | kw)
    for k, v in dict(classes=[None, [], 'abc', {}, ['a', 'a', 'b'], [[], [], []], ['a', 'b'], ['x'*501, 'b', 'c'],
        [1, '1', 2],
                              ['a']*20_000, [None]*3, ['a', 'b', {}]],
                     portable=[None, [], 'x', {}, 7], arch=[[1], {}, 'x'*2000], n_photos=['<b>', -1, 1.5, 1e30,
                         [], True],
                     error_rate=['x', [], 1e300], interval=[[1], 'ab', [1, 'x'], {}], unsure_below=['1', []],
                     versions=[[], {'a': {}}], date=[5], n_wrong=['0'], sha256=['zz', 5]).items():
        for i, o in enumerate(v): yield f'{k}-{i}', with_(**{k: o})
    step = dict(do='squish', size=[32, 32])
    for i, o in enumerate([None, [], {}, 'squish', [None], [step]*9, [step | dict(do='run')],
        [step | dict(do=['squish'])],
                           [step | dict(size=[32])], [step | dict(size=[0, 32])], [step | dict(size=[32, 10**9])],
                           [step | dict(size=['32', 32])], [step | dict(size=[True, 32])],
                               [step | dict(size=[32.5, 32])],
                           [step | dict(path='/etc')], [step | dict(do='pad', pad_mode='wrap')],
                           [step | dict(do='squish', pad_mode='zeros')], [step | dict(do='__class__')],
                           [step | dict(do='pad', pad_mode=[])], [step, step | dict(size=[64, 64])]]):
        yield f'steps-{i}', in_(steps=o)
    for k, v in dict(mode=['CMYK', None, [], 5], near_limit=['x', [], {}, -1], temperature=['x', [], -1],
                     learned_from=['abc', 'ZZZZZZZZ', 5, []], sha256=[None, '', 5, 'x'*64, '0'*63]).items():
        for i, o in enumerate(v): yield f'own-{k}-{i}', in_(**{k: o})
    yield from dict(empty='', text='a model', list='[]', number='5', null='null', deep='['*100_000,
        deeper='{"a":'*50_000,
                    closed='['*900 + ']'*900, nested='{"a":' + '['*20 + ']'*20 + '}',
                        digits='{"classes": ' + '9'*10_000 + '}',
                    nan=json.dumps(FACTS).replace('0.33', 'NaN'), infinity=json.dumps(FACTS).replace('0.33',
                        '-Infinity'),
                    huge=json.dumps(FACTS).replace('0.33', '1e999'), lists='[' + '[],'*1_300_000 + '[]]',
                    long='{"a": "' + 'x'*5_000_000 + '"}', cut=json.dumps(FACTS)[:-5], nul='\0'*100).items()


def crafted(folder):
    "Write all of them into `folder`; their names"
    def write(name, model, text=None):
        here = folder/name
        here.mkdir()
        data = model if isinstance(model, bytes) else model.SerializeToString()
        sha = hashlib.sha256(data).hexdigest()
        own = FACTS | dict(portable=FACTS['portable'] | dict(sha256=sha))
        if text is None: text = json.dumps(own)
        elif text[:1] == '{' and 'own-sha256' not in name:  # the right hash, as far as it goes
            text = text.replace('"weights": "float32"', f'"sha256": "{sha}"')
        (here/'export.onnx').write_bytes(data)
        (here/'export.json').write_text(text)
        return here
    (folder/'secret').write_bytes(struct.pack('f', 10))
    for part in structures, numbers, ends, raw:
        for k, v in part(): write(f'{part.__name__}-{k}'.replace('/', '_'), v)
    for k, v in facts(): write(f'facts-{k}', good(), v)
    write('hash', good(), json.dumps(FACTS | dict(portable=FACTS['portable'] | dict(sha256='0'*64))))
    for end in 'onnx', 'json':
        for kind in 'link', 'pipe', 'folder', 'device', 'dangling':
            file = write(f'{end}-{kind}', good())/f'export.{end}'
            file.rename(file.with_name('other'))
            if kind == 'link': file.symlink_to('other')
            if kind == 'dangling': file.symlink_to('nothing')
            if kind == 'device': file.symlink_to('/dev/zero')
            if kind == 'pipe': os.mkfifo(file)
            if kind == 'folder': file.mkdir()
        (write(f'{end}-missing', good())/f'export.{end}').unlink()
    return sorted(o.name for o in folder.iterdir() if o.is_dir())
