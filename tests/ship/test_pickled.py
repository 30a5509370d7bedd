"An export.pkl is read without being run: real ones say what their own fastai says, crafted ones one sentence"
import json, os, subprocess, sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bearclf.core import BearclfError
from bearclf.ship.pickled import convert, read_export
from bearclf.ship.portable import read_portable
from helpers import LONG

here = Path(__file__).parent


def photos():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (30 + 3*i, 50 - 4*i, 3), np.uint8)) for i in range(6)]


def off(file, dest):
    "How far the probabilities of the portable model of `file` are from those of the fastai that wrote it"
    convert(file, dest, 'float32')
    said = json.loads(file.with_suffix('.json').read_text())
    pairs = zip(read_portable(dest).many(photos()), said['probs'])
    return max(abs(p.probabilities[k] - o) for p, row in pairs for k, o in zip(said['vocab'], row))


@pytest.mark.parametrize('version', ['27', '28'])
def test_small_real_ones(version, tmp_path): assert off(here/f'fastai{version}.pkl', tmp_path) < 1e-4


@pytest.mark.exhaustive
def test_real_ones_from_fresh_environments(tmp_path):
    subprocess.run([sys.executable, here/'make_exports.py', tmp_path/'made'], check=True)
    files = sorted((tmp_path/'made').glob('*/*.pkl'))
    assert len(files) == 10
    assert {f: d for i, f in enumerate(files) if not (d := off(f, tmp_path/str(i))) < 1e-4} == {}


def test_neither_torch_nor_fastai_is_imported():
    code = f"""import sys
from bearclf.ship.pickled import read_export
print(read_export({str(here/'fastai27.pkl')!r}).classes, {{'torch', 'fastai'}} & {{*sys.modules}})"""
    said = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert said.stdout == "['black', 'grizzly', 'teddy'] set()\n"


@pytest.mark.skipif(sys.platform != 'linux', reason='memory is measured by /proc')
def test_crafted_ones(tmp_path):
    """Nothing is run or imported, each takes under 3 s of the processor and little memory, and gets one sentence"""
    import crafted
    files = crafted.make(tmp_path/'files', here/'fastai27.pkl', tmp_path/'RUN')
    assert len(files) >= 300
    said = subprocess.run([sys.executable, here/'crafted.py', tmp_path/'files'], capture_output=True, text=True,
                          cwd=tmp_path, timeout=LONG)
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout)
    assert len(found) == len(files) and not (tmp_path/'RUN').exists()
    good = {k: found.pop(k)['said'] for k in [*found] if k.startswith('net-good')}
    assert good == {'net-good.pkl': '', 'net-good-familiar.pkl': ''}
    assert {k: v for k, v in found.items() if v['raised'] != 'BearclfError' or v['seconds'] > 3
            or '\n' in v['said'] or not v['said'].endswith('.')} == {}
    assert {k: v for k, v in found.items() if (v['modules'] or v['mb'] > 200) and not k.startswith('net-')} == {}
    assert max(v['mb'] for v in found.values()) < 1500  # PyTorch among it
