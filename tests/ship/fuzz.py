"""A small real model with accidents: export.pkl, export.onnx and export.json changed at random, thousands of times.

Each has to be read as a model, or to be refused with one sentence, in 2 s and 200 MB, and nothing may be run, imported
or written meanwhile. As a script: python tests/ship/fuzz.py 2000 says what 2,000 of each kind came to."""
import collections, copy, hashlib, io, json, os, pickletools, random, re, resource, sys, tempfile, time, traceback
import warnings, zipfile
from pathlib import Path

here = Path(__file__).parent
NUMBERS = [0, 1, -1, 2, 3, 5, 7, 8, 127, 255, 256, 2047, 2048, 65536, 10**6, 2**31 - 1, 2**31, 2**32, 2**40,
           2**62, -2**31, -2**63]
TEXTS = ['', 'a', 'photo', 'probability', 'Loop', 'Cast', 'os', 'system', '../../etc/passwd', '\x1b[2J', 'a\nb',
         '\u202e', 'x'*10**5, '0']
ODD = [*NUMBERS, *TEXTS, .5, -1., 1e308, float('nan'), float('inf'), None, True, False, [], {}, [[]]*9,
       {'a': {'b': {'c': [1]}}}]


def mangled(data, rng):
    "The bytes `data`, some of them others, missing, repeated or elsewhere"
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        i, j = sorted(rng.randrange(len(data) + 1) for _ in '12')
        j, how = min(j, i + rng.choice((1, 4, 40, 4000))), rng.randrange(6)
        if how == 0 and data: data[min(i, len(data) - 1)] ^= 1 << rng.randrange(8)
        if how == 1: data[i:j] = rng.randbytes(j - i)
        if how == 2: del data[i:j]
        if how == 3: data[i:i] = data[i:j]
        if how == 4: k = rng.randrange(len(data) + 1); data[k:k + j - i] = data[i:j]
        if how == 5 and not rng.randrange(4): del data[i:]
    return bytes(data)


def steps_of(program):
    at = [pos for *_, pos in pickletools.genops(program)] + [len(program)]
    return [program[a:b] for a, b in zip(at, at[1:])]

def other_step(step, rng):
    "A step of a pickle with another argument"
    op, arg = step[:1], step[1:]
    if op in b'hqKJMIG': return op + (rng.randbytes(len(arg)) if rng.randrange(2) else bytes(len(arg)))
    if op in b'jr': return op + rng.randrange(3000).to_bytes(4, 'little')
    if op == b'X':
        text = rng.choice(TEXTS).encode()
        return op + len(text).to_bytes(4, 'little') + text
    if op in b'\x8a': n = rng.choice(NUMBERS).to_bytes(9, 'little', signed=True); return op + b'\x09' + n
    return bytes([rng.choice(b'N()].}]0e2tbsuaR\x81\x85\x86\x87\x88\x8f\x90\x91\x93\x94')])

def odd_pickle(data, rng):
    "The same export.pkl with other steps in its program, and no checksum wrong; or other bytes"
    if not rng.randrange(4): return mangled(data, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as z: files = {o: z.read(o) for o in z.namelist()}
    name = next(o for o in files if o.endswith('data.pkl'))
    steps = steps_of(files[name])
    for _ in range(rng.choice((1, 1, 2, 4))):
        i, j = rng.randrange(len(steps)), rng.randrange(len(steps))
        how = rng.randrange(5)
        if how < 2: steps[i] = other_step(steps[i], rng)
        if how == 2: steps[i:i + rng.choice((1, 5))] = []
        if how == 3: steps[i:i] = steps[j:j + rng.choice((1, 5, 50))]
        if how == 4: steps[i] = rng.choice([o for o in steps if o[:1] == steps[i][:1]])
    files[name] = b''.join(steps)
    with zipfile.ZipFile(b := io.BytesIO(), 'w') as z: [z.writestr(k, v) for k, v in files.items()]
    return b.getvalue()


def messages(m):
    "The message `m` and all in it"
    yield m
    for f, v in m.ListFields():
        if f.message_type: yield from (o for one in (v if f.is_repeated else [v]) for o in messages(one))

def odd_message(m, rng):
    "Change a field of the message `m`"
    f = rng.choice(m.DESCRIPTOR.fields)
    if not f.is_repeated and f.message_type: return getattr(m, f.name).SetInParent()
    kinds = {f.CPPTYPE_STRING: TEXTS, f.CPPTYPE_FLOAT: [0., 1e38, float('nan')], f.CPPTYPE_ENUM: [*range(17)]}
    value = rng.choice(kinds.get(f.cpp_type, NUMBERS))
    if f.type == f.TYPE_BYTES: value = value.encode()
    if not f.is_repeated: return setattr(m, f.name, value)
    o, n = getattr(m, f.name), len(getattr(m, f.name))
    if n and rng.randrange(3): del o[rng.randrange(n)]
    elif f.message_type: o.add().CopyFrom(rng.choice(o)) if n else o.add()
    elif n and rng.randrange(2): o[rng.randrange(n)] = value
    else: o.append(value)

def odd_graph(data, rng):
    import onnx
    if not rng.randrange(4): return mangled(data, rng)
    m = onnx.load_from_string(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        try: odd_message(rng.choice([*messages(m)]), rng)
        except (ValueError, TypeError): pass  # more than the field holds
    ops = 'Conv MaxPool AveragePool Pad Expand Reshape Slice TopK Gather Transpose Split Concat Gemm MatMul'.split()
    if not rng.randrange(3): rng.choice(m.graph.node).op_type = rng.choice(ops)
    return m.SerializeToString()


def places(o):
    "All keys in what JSON says, each with that in which it is"
    for k, v in [*(o.items() if isinstance(o, dict) else enumerate(o) if isinstance(o, list) else ())]:
        yield o, k
        yield from places(v)

def odd_facts(text, rng):
    if not rng.randrange(4): return mangled(text.encode(), rng)
    facts = json.loads(text)
    for _ in range(rng.choice((1, 1, 2, 3))):
        o, k = rng.choice([*places(facts)])
        o[k] = copy.deepcopy(rng.choice(ODD))
    return json.dumps(facts).encode(rng.choice(['utf-8']*8 + ['utf-16', 'utf-8-sig']), 'surrogatepass')


def read(kind, folder):
    "Open the model in the `folder` as our users do"
    from bearclf.ship.pickled import _one_sentence, net_of, read_export
    from bearclf.ship.portable import read_portable
    if kind == 'pkl':
        with _one_sentence(folder/'export.pkl'): return net_of(read_export(folder/'export.pkl'))
    clf = read_portable(folder)
    return str(clf(bytes_of_a_photo)) + repr(clf)

def case(kind, good, seed, folder):
    "Write what the number `seed` stands for"
    rng = random.Random(f'{kind} {seed}')
    if kind == 'pkl': return (folder/'export.pkl').write_bytes(odd_pickle(good['pkl'], rng))
    graph = odd_graph(good['onnx'], rng) if kind == 'onnx' else good['onnx']
    own = good['json']['portable'] | {'sha256': hashlib.sha256(graph).hexdigest()}
    facts = json.dumps(good['json'] | {'portable': own})
    (folder/'export.onnx').write_bytes(graph)
    (folder/'export.json').write_bytes(odd_facts(facts, rng) if kind == 'json' else facts.encode())


watched, acts = [False], []
ACTS = '''compile exec os.system os.exec os.posix_spawn os.fork os.remove os.rename os.mkdir pickle.find_class
    marshal.loads'''.split()
KNOWN = re.compile('(torch|torchvision|timm|fastai|bearclf|onnx|onnxruntime|numpy|google|importlib|encodings)(\\.|$)')

def watch(event, args):
    "Note what a reader has no reason to do"
    if not watched[0]: return
    flags = (args[2] or 0) & (os.O_WRONLY | os.O_RDWR) if event == 'open' else 0
    writes = flags or event == 'open' and {*str(args[1] or '')} & {*'wax+'}
    imports = event == 'import' and not KNOWN.match(args[0])
    if writes or imports or event in ACTS or event.split('.')[0] in ('subprocess', 'socket'):
        acts.append(f'{event} {str(args)[:80]}')

def outcome(kind, folder):
    "What reading comes to: answer, sentence, or what is wrong with it"
    from bearclf.core import BearclfError
    acts.clear()
    Path('/proc/self/clear_refs').write_text('5')  # the most memory so far is forgotten
    status = lambda k: int(Path('/proc/self/status').read_text().partition(k)[2].split()[0])/1000
    before, began = status('VmRSS:'), time.process_time()
    watched[0] = True
    try: read(kind, folder); said = 'answer'
    except BearclfError as e:
        said, text = 'sentence', str(e)
        away = text.replace(str(folder), '')
        if '\n' in text or len(away) > 500 or not away.endswith(('.', ')')) or 'python3' in away or '/tmp' in away:
            said = f'odd: {text[:300]}'
    except BaseException as e: said = f'raised {type(e).__name__}: {str(e)[:200]}'
    finally: watched[0] = False
    took, mb = time.process_time() - began, status('VmHWM:') - before
    if acts: return f'acted: {acts[:3]}'
    return f'took {took:.1f} s' if took > 2 else f'took {mb:.0f} MB' if mb > 200 else said


def worker(kind, good, first, n, pipe):
    "Try the cases from `first` on, and write into `pipe` what each came to"
    room = int(Path('/proc/self/statm').read_text().split()[0])*4096 + 2**30
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    with tempfile.TemporaryDirectory() as tmp:
        for i in range(first, n):
            resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 12, -1))
            case(kind, good, i, Path(tmp))
            os.write(pipe, (json.dumps([i, outcome(kind, Path(tmp))]) + '\n').encode())

def tried(kind, good, n):
    "What all `n` cases came to; a process that ends too soon is followed by another"
    found = {}
    while len(found) < n:
        r, w = os.pipe()
        if not (pid := os.fork()):
            os.close(r)
            try: worker(kind, good, len(found), n, w)
            except BaseException: traceback.print_exc()
            finally: os._exit(0)
        os.close(w)
        with open(r) as f: found |= dict(map(json.loads, f))
        _, status = os.waitpid(pid, 0)
        if len(found) < n: found[len(found)] = f'died of signal {status & 127}'
    return found

def main(n=1000, kinds='pkl onnx json'):
    "Kind -> what it came to -> how often, or the numbers of the cases where that is wrong"
    global bytes_of_a_photo
    warnings.simplefilter('ignore')
    import numpy as np
    from PIL import Image
    import fastai.vision.all, onnx.shape_inference, onnxruntime, timm, torchvision, torch  # before anything is watched
    from bearclf.ship.pickled import convert
    torch.set_num_threads(1)
    Image.fromarray(np.zeros((40, 50, 3), 'uint8')).save(b := io.BytesIO(), 'PNG')
    bytes_of_a_photo = b.getvalue()
    with tempfile.TemporaryDirectory() as tmp:
        real, tmp = here/'fastai28.pkl', Path(tmp)
        convert(real, tmp)
        facts = json.loads((tmp/'export.json').read_text())
        good = dict(pkl=real.read_bytes(), onnx=(tmp/'export.onnx').read_bytes(), json=facts)
        (tmp/'export.pkl').write_bytes(good['pkl'])
        for o in 'pkl', 'onnx': read(o, tmp)
    sys.addaudithook(watch)
    found = {}
    for kind in kinds.split():
        by = collections.defaultdict(list)
        for i, said in tried(kind, good, n).items(): by[said].append(i)
        found[kind] = {k: len(v) if k in ('answer', 'sentence') else v[:5] for k, v in by.items()}
    return found


if __name__ == '__main__': print(json.dumps(main(*map(int, sys.argv[1:2]), *sys.argv[2:]), indent=1))
