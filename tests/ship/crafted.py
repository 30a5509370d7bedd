"""Files that pretend to be an export.pkl: `make` writes them; run as a script, it says what reading each came to."""
import io, json, os, pickle, pickletools, struct, sys, time, zipfile
from pathlib import Path

P2, END = b'\x80\x02', b'.'


def text(s): return b'X' + struct.pack('<I', len(s.encode())) + s.encode()
def name(module, attr): return f'c{module}\n{attr}\n'.encode()
def call(module, attr, *args): return name(module, attr) + b'(' + b''.join(args) + b'tR'


def zipped(program, files=(), root='export', how=zipfile.ZIP_STORED):
    with zipfile.ZipFile(b := io.BytesIO(), 'w', how) as z:
        for k, v in [('data.pkl', program), ('byteorder', b'little'), *files, ('version', b'3\n')]:
            z.writestr(f'{root}/{k}', v)
    return b.getvalue()


def programs(mark):
    "Name -> a program that is run by who unpickles it, or that takes time or memory"
    code = f"open({str(mark)!r}, 'w')"
    calls = {'eval': call('builtins', 'eval', text(code)), 'exec': call('builtins', 'exec', text(code)),
             'exec2': call('__builtin__', 'exec', text(code)),
             'open': call('builtins', 'open', text(str(mark)), text('w')),
             'io': call('io', 'open', text(str(mark)), text('w')),
             'system': call('os', 'system', text(f'touch {mark}')),
             'posix': call('posix', 'system', text(f'touch {mark}')),
             'nt': call('nt', 'system', text(f'echo > {mark}')),
             'subprocess': call('subprocess', 'getoutput', text(f'touch {mark}')),
             'runpy': call('runpy', '_run_code', text(code), b'}'), 'pdb': call('pdb', 'run', text(code)),
             'timeit': call('timeit', 'timeit', text(code)), 'profile': call('cProfile', 'run', text(code)),
             'bdb': call('bdb', 'Bdb'), 'import': call('importlib', 'import_module', text('antigravity')),
             'import2': call('builtins', '__import__', text('this')), 'pip': call('pip', 'main', b']'),
             'asyncio': call('asyncio.unix_events', '_UnixSubprocessTransport._start'),
             'code': call('code', 'interact'),
             'numpy': call('numpy.testing._private.utils', 'runstring', text(code), b'}'),
             'torch': call('torch._dynamo.guards.GuardBuilder', 'get', text(code)),
             'hub': call('torch.hub', 'load', text('a/b'), text('c')), 'load': call('torch', 'load', text(str(mark))),
             'jit': call('torch.utils._config_module', 'load_config', text(code)),
             'marshal': call('marshal', 'loads', text(code)),
             'pickle': call('pickle', 'loads', text(code)), 'ctypes': call('ctypes', 'CDLL', text('libc.so.6')),
             'cloudpickle': call('cloudpickle.cloudpickle', '_make_function', text(code)),
             'getattr': call('builtins', 'getattr', name('os', 'path'), text('os')),
             'types': call('types', 'CodeType', b'K\0'),
             'rmtree': call('shutil', 'rmtree', text(str(mark.parent))),
             'webbrowser': call('webbrowser', 'open', text('x'))}
    found = {f'call-{k}-alone': P2 + v + END for k, v in calls.items()}
    found |= {f'call-{k}-inside': P2 + b'}' + text('model') + v + b's' + END for k, v in calls.items()}
    found |= {f'state-{k}': P2 + name('fastai.learner', 'Learner') + b')\x81' + v + b'b' + END
              for k, v in calls.items()}
    found |= {f'newobj-{k}': P2 + v[:-1] + b'\x81' + END for k, v in calls.items()}
    found |= {f'inst-{k}': b'(' + text(code) + b'i' + v[1:v.index(b'(')] + END for k, v in calls.items()}
    found |= {f'obj-{k}': P2 + b'(' + v[:v.index(b'(')] + text(code) + b'o' + END for k, v in calls.items()}
    return found | odd_programs(code)


def odd_programs(code):
    n = 10**6
    big = {'lists': b']'*n + b'a'*(n - 1), 'tuples': b')' + b'\x85'*n, 'marks': b'('*n, 'dicts': b'}'*n,
           'sets': b'\x8f'*n,
           'memo': b']' + b''.join(b'r' + struct.pack('<I', i) for i in range(300_000)), 'get': b']q\0' + b'h\0'*n,
           'laughs': b']q\0' + b''.join(b'](' + bytes([104, i])*2 + b'eq' + bytes([i + 1]) for i in range(200)),
           'appends': b']q\0(' + b'h\0'*n + b'e', 'nones': b'N'*2*n, 'frames': b'\x95' + struct.pack('<Q', 0)*1}
    lengths = {k: op + struct.pack(f, m) for k, (op, f) in {
        'long4': (b'\x8b', '<i'), 'unicode': (b'X', '<I'), 'unicode8': (b'\x8d', '<Q'), 'bytes': (b'B', '<I'),
        'bytes8': (b'\x8e', '<Q'), 'array8': (b'\x96', '<Q'), 'string': (b'T', '<i'), 'frame': (b'\x95', '<Q')}.items()
        for m in [2**31 - 1]}
    lengths |= {'unicode8-most': b'\x8d' + b'\xff'*8, 'bytes8-most': b'\x8e' + b'\xff'*8,
                'array8-most': b'\x96' + b'\xff'*8,
                'long4-minus': b'\x8b' + b'\xff'*4, 'put-most': b'Nr' + b'\xff'*4, 'int': b'I' + b'9'*10**6 + b'\n',
                'long': b'L' + b'9'*10**6 + b'L\n', 'float': b'F' + b'9'*10**6 + b'\n'}
    odd = {'list': b']N', 'tuple': b')N', 'none': b'NN', 'number': b'K\1N', 'text': text('a') + b'N'}
    into = {f'{k}-{o}': v + (b'N' if op == b's' else b'') + op for k, v in odd.items() for o, op in
            {'setitem': b's', 'append': b'a', 'build': b'b'}.items() if (k, o) != ('list', 'append')}
    into |= {f'{k}-{o}': v[:-1] + b'(NN' + op for k, v in odd.items() for o, op in
             {'setitems': b'u', 'appends': b'e', 'additems': b'\x90'}.items() if (k, o) != ('list', 'appends')}
    into |= {f'{k}-called': v[:-1] + b')R' for k, v in odd.items()}
    into |= {f'{k}-new': v[:-1] + b')\x81' for k, v in odd.items()}
    names = {'dotted': name('os', 'path.join'), 'dotted4': text('os') + text('path.join') + b'\x93',
             'number': b'K\1K\2\x93',
             'list': b']]\x93', 'none': b'NN\x93', 'call': name('a', 'b') + b')R' + text('x') + b'\x93',
             'empty': name('', ''),
             'space': name('os ', ' system'), 'dots': name('..os', 'system'), 'long': name('a'*10**5, 'b'),
             'unicode': name('o\xad', 's'), 'dunder': name('__main__', '__loader__.load_module'), 'ext1': b'\x82\1',
             'ext2': b'\x83\1\0', 'ext4': b'\x84\1\0\0\0', 'dup': b'N2', 'next': b'\x97', 'readonly': b'N\x98',
             'pop': b'0',
             'reduce': b'R', 'stop': b'', 'unknown': b'\xff', 'list0': b'(l', 'dict0': b'(NNd', 'persid': b'Pmoby\n'}
    pids = {'text': text('storage'), 'none': b'N', 'list': b']', 'short': b'(' + text('storage') + b't',
            'module': b'(' + text('module') + name('os', 'system') + text('x') + text('y') + b'tt',
            **{f'key-{i}': storage(o) for i, o in
               enumerate(['../../etc/passwd', '/etc/passwd', '', '0/..', '1', 'data.pkl', '0\0'])},
            **{f'size-{n}': storage('0', n) for n in (0, 1, 5, 2**31, 2**62)}, 'minus': storage('0', -1),
            **{f'kind-{k}': storage('0', 4, k) for k in ('Object', 'Untyped', 'QInt8', 'Double', 'Byte')},
            'kind-os': storage('0').replace(b'ctorch\nFloatStorage', b'cos\nsystem')}
    tensors = {'beyond': ((5,), (1,), 0), 'offset': ((4,), (1,), 1), 'minus': ((4,), (-1,), 0),
               'stride': ((2, 2), (9, 1), 0),
               'huge': ((2**31, 2**31), (1, 1), 0), 'shapes': ((2, 2), (1,), 0), 'many': ((1,)*99, (1,)*99, 0)}
    tensors = {k: tensor(*v) for k, v in tensors.items()}
    ends = {'twice': b'N.N', 'two-streams': b'N.' + P2 + b'N', 'behind': b'N.abc', 'two-things': b'NN', 'nothing': b'(',
            'proto9': b'\x80\x09N', 'proto0': b'\x80\0N', 'unhashable': b'}]Ns', 'mark-tuple': b't', 'get': b'h\7',
            'pop-mark': b'1'}
    groups = dict(big=big, length=lengths, into=into, name=names, pid={k: v + b'Q' for k, v in pids.items()},
                                                                       tensor=tensors,
                  end=ends)
    return {f'{g}-{k}': P2 + v + END for g, some in groups.items() for k, v in some.items()}


def number(n): return b'\x8a\x09' + n.to_bytes(9, 'little', signed=True)

def storage(key, n=4, kind='Float'):
    return b'(' + text('storage') + name('torch', f'{kind}Storage') + text(key) + text('cpu') + number(n) + b't'

def tensor(shape, strides, offset, key='0', n=4):
    many = lambda o: b'(' + b''.join(map(number, o)) + b't'
    return name('torch._utils', '_rebuild_tensor_v2') + b'(' + storage(key, n) + b'Q' + number(offset) + \
        many(shape) + many(strides) + b'\x89NtR'


# A whole learner, as a program, in which one thing is odd

class Obj:
    "What a program makes: of what, with which attributes"
    def __init__(self, what, **fields): self.what, self.fields = what, fields


def coded(o):
    "The steps that put `o` on the stack; bytes are such steps already"
    if type(o) is bytes: return o
    if o is None or type(o) is bool: return {None: b'N', True: b'\x88', False: b'\x89'}[o]
    if type(o) is int: return number(o)
    if type(o) is float: return b'G' + struct.pack('>d', o)
    if type(o) is str: return text(o)
    if type(o) is dict: return b'}(' + b''.join(coded(k) + coded(v) for k, v in o.items()) + b'u'
    if type(o) is Obj: return name(*o.what.rsplit('.', 1)) + b')\x81' + coded(o.fields) + b'b'
    return (b'](' if type(o) is list else b'(') + b''.join(map(coded, o)) + (b'e' if type(o) is list else b't')


def layer(what, children=(), params=(), **fields):
    return Obj(f'torch.nn.modules.{what}', _modules=dict(children), _parameters=dict(params), _buffers={}, **fields)

def chain(*layers): return layer('container.Sequential', [(str(i), o) for i, o in enumerate(layers)])

def pool(**kw):
    return layer('pooling.MaxPool2d', **dict(kernel_size=2, stride=2, padding=0, dilation=1, return_indices=False,
                                             ceil_mode=False) | kw)

def conv(**kw):
    usual = dict(in_channels=3, out_channels=3, kernel_size=(1, 1), stride=(1, 1), padding=(0, 0), dilation=(1, 1),
                 groups=1, padding_mode='zeros', transposed=False, output_padding=(0, 0))
    n = kw.get('out_channels', 3)
    return layer('conv.Conv2d', params=dict(weight=tensor((n, 3, 1, 1), (0, 0, 0, 0), 0), bias=None), **usual | kw)

def learner(body=(pool(),), size=(32, 32), items=(), batch=(), **more):
    "A learner of two classes, whose net is fine unless its `body` is not"
    linear = layer('linear.Linear', params=dict(weight=tensor((2, 3), (1, 0), 0), bias=tensor((2,), (1,), 0)),
                   in_features=3, out_features=2)
    flat = Obj('fastai.layers.Flatten', full=False, _modules={}, _parameters={}, _buffers={})
    pipe = lambda *fs: Obj('fasttransform.transform.Pipeline', fs=list(fs))
    resize = Obj('fastai.vision.augment.Resize', size=size, mode=call('PIL.Image', 'Resampling', number(2)),
                 method='squish')
    vocab = Obj('fastai.data.transforms.Categorize', vocab=['black', 'grizzly'])
    tls = [Obj('a.b', types=[name('fastai.vision.core', 'PILImage')]), Obj('a.b', tfms=pipe(vocab))]
    loader = Obj('a.b', dataset=Obj('a.b', tls=tls), after_item=pipe(resize, *items), before_batch=pipe(),
                 after_batch=pipe(*batch))
    net = chain(chain(*body), chain(layer('pooling.AdaptiveAvgPool2d', output_size=1), flat, linear))
    return Obj('fastai.learner.Learner', dls=Obj('a.b', loaders=[None, loader]), model=net,
               loss_func=Obj('fastai.losses.CrossEntropyLossFlat'), **more)


def learners():
    "Name -> a learner with something in it that takes for ever, or all memory, or is of another type"
    deep = b'K\1q\x100' + b''.join(b'(' + bytes([104, i])*4 + b't' + bytes([113, i + 1]) + b'0' for i in range(16, 41))
    nones, many = b'}(' + b'K\1N'*60_000 + b'u', b'}(' + (text('a') + b'N')*60_000 + b'u'
    Familiar = lambda known=tensor((8, 6), (6, 1), 0, '1', 48), limit=.5, buffers=None: Obj(
        'bearclf.train.features.Familiar', limit=limit, ours=[], maps=True,
        _buffers=buffers or dict(known=known, weight=None, bias=None))
    zoom = Obj('fastai.vision.augment.Zoom', size=2048, mode='bilinear', pad_mode='zeros')
    shared = [name('torch.nn.modules.activation', 'Tanh') + b')\x81' + many + b'bq\x10'] + [b'h\x10']*290
    normal = Obj('fastai.data.transforms.Normalize', mean=tensor((2**27,), (0,), 0), std=tensor((3,), (0,), 0))
    odd = Obj('fastai.vision.augment.CropPad', size=(32, 32), pad_mode=Obj('os.system'))
    state = name('a', 'b') + b')\x81' + b'}(' + (text('a') + b'N')*30_000 + b'uq\x100(' + b'h\x10'*60_000 + b'tb'
    found = {'setting-deep': learner([pool(kernel_size=deep + b'h\x29')]), 'state-shared': learner(items=[state]),
             'layers-none': learner([Obj('torch.nn.modules.container.Sequential', _modules=nones)]),
             'layers-shared': learner(shared),
             'normalize': learner(batch=[normal]), 'zooms': learner(batch=[zoom]*100),
             'zooms-two': learner(batch=[zoom]*3),
             'pools': learner([chain(*[pool(kernel_size=31, stride=1, padding=15)]*250)]*16, (2048, 2048)),
             'conv-large': learner([conv(out_channels=1000)], (2048, 2048)), 'conv-of-none': learner([conv(groups=0)]),
             'conv-same': learner([conv(padding='same', padding_mode='replicate', dilation=(2**13, 2**13))]),
             'conv-replicate': learner([conv(padding=(2**13, 2**13), padding_mode='replicate')]),
             'pad-mode': learner(items=[odd]), 'size-large': learner(size=(2**31, 2**31)),
             'familiar-nan': learner(familiar=Familiar(limit=float('nan'))),
             'familiar-inf': learner(familiar=Familiar(limit=1e999)),
             'familiar-known': learner(familiar=Familiar(buffers=b'}(' + (text('known') + b'N')*60_000 + b'u')),
             'familiar-huge': learner(familiar=Familiar(tensor((2**20, 2**20), (0, 0), 0))),
             'familiar-other': learner(familiar=Obj('os.system', maps=True))}
    good = {'good': learner(), 'good-familiar': learner(familiar=Familiar())}
    return good | {f'bad-{k}': v for k, v in found.items()}


def zips(real):
    "Name -> a zip file that is not what torch.save writes"
    at, good = len(real) - 22, zipped(P2 + b'N.', [('data/0', bytes(16))])
    size, start = struct.unpack_from('<II', real, at + 12)
    def put(data, where, *bytes_): return data[:where] + bytes(bytes_) + data[where + len(bytes_):]
    found = {'compressed': zipped(P2 + b'N.'*9, how=zipfile.ZIP_DEFLATED), 'bomb': zipped(bytes(50*10**6),
             how=zipfile.ZIP_DEFLATED),
             'prefix': b'MZ' + real, 'behind': real + b'x', 'comment': real[:-2] + b'\1\0x', 'twice': real + real,
             'empty': b'',
             'one-byte': b'P', 'no-entries': b'PK\5\6' + bytes(18), 'text': b'not a zip file',
             'pickle': pickle.dumps({}, 2),
             'tar': b'export'.ljust(600, b'\0'), 'up': zipped(P2 + b'N.', [('../../x', b'')]),
             'abs': zipped(P2 + b'N.', root=''),
             'two-roots': zipped(P2 + b'N.') [:-22], 'duplicate': zipped(P2 + b'N.', [('version', b'')]),
             'crc': put(real, 200, 1, 2, 3),
             'big-endian': good.replace(b'little', b'big\0\0\0'), 'no-pickle': good.replace(b'data.pkl', b'data.pkx'),
             'backslash': good.replace(b'data/0', b'data\\0'), 'nul': good.replace(b'data/0', b'data\x000'),
             'names-differ': put(good, good.index(b'data/0'), *b'data/1'),
             'many': zipped(P2 + b'N.', [(f'data/{i}', b'') for i in range(21_000)])}
    for bit in range(16):
        i = start + 8 + bit//8
        if not 0x808 >> bit & 1: found[f'flag-{bit}'] = put(real, i, real[i] ^ 1 << bit % 8)
    found |= {f'method-{n}': put(real, start + 10, n) for n in (1, 8, 12, 14, 99)}
    found |= {f'directory-{i}': put(real, start + i, real[start + i] ^ 0x55) for i in (0, 16, 20, 24, 28, 34, 42, 43)}
    found |= {f'end-{i}': put(real, at + i, real[at + i] ^ 0x55) for i in (0, 4, 6, 8, 10, 12, 16, 20)}
    return found | {f'cut-{i}': real[:len(real)*i//20] for i in range(1, 20)}


def make(folder, real, mark):
    "Write all of them into the `folder`; `real` is a real export, and `mark` the file that a program would write"
    folder.mkdir()
    data = real.read_bytes()
    with zipfile.ZipFile(real) as z: program = z.read(next(o for o in z.namelist() if o.endswith('data.pkl')))
    made = {f'program-{k}': zipped(v, [('data/0', bytes(16))]) for k, v in programs(mark).items()}
    made |= {f'zip-{k}': v for k, v in zips(data).items()}
    steps = [pos for *_, pos in pickletools.genops(program)]
    for i in steps[1::len(steps)//60]: made[f'cut-{i}'] = zipped(program[:i] + END)
    numbers = [('data/0', struct.pack('<4f', 1, 2, 3, 4)), ('data/1', struct.pack('<48f', *range(48)))]
    made |= {f'net-{k}': zipped(P2 + coded(v) + END, numbers) for k, v in learners().items()}
    for k, v in made.items(): (folder/f'{k}.pkl').write_bytes(v)
    (folder/'link-nowhere.pkl').symlink_to(folder/'nowhere')
    (folder/'link-device.pkl').symlink_to('/dev/zero')
    (folder/'folder.pkl').mkdir()
    os.mkfifo(folder/'pipe.pkl')
    os.mkfifo(folder/'export-pipe.json')
    with open(folder/'sparse.pkl', 'wb') as f: f.write(b'PK\3\4'); f.truncate(2**40)
    return sorted(folder.glob('*.pkl'))


def most_memory():
    "The most MB that this process has had so far"
    return int(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])/1000


def asked(f, file):
    "What `f` makes of the `file`: what it raises, in how many seconds of this process, up to which memory"
    known, began = {*sys.modules}, time.process_time()
    try: f(file); raised, said = 'nothing', ''
    except BaseException as e: raised, said = type(e).__name__, str(e)
    return dict(raised=raised, said=said, seconds=time.process_time() - began, mb=most_memory(),
                modules=sorted({*sys.modules} - known))


def main(folder):
    from bearclf.ship.pickled import read_export
    asked(read_export, __file__)
    print(json.dumps({o.name: asked(read_export, o) for o in sorted(Path(folder).glob('*.pkl'))}))


if __name__ == '__main__': main(sys.argv[1])
