"What the code imports stands in settings.ini"
import ast, re, sys
from configparser import ConfigParser
from importlib.metadata import packages_distributions
from pathlib import Path

top = Path(__file__).resolve().parent.parent
NOT_ASKED_FOR = {'bearclf', 'duckduckgo_search'}  # ourselves, and the old name of ddgs, used where somebody has it


def imported(code):
    "The top names of what `code` imports, anywhere"
    for o in ast.walk(ast.parse(code)):
        if isinstance(o, ast.Import): yield from (a.name.split('.')[0] for a in o.names)
        if isinstance(o, ast.ImportFrom) and not o.level: yield o.module.split('.')[0]


def test_what_is_imported_is_declared():
    cfg = ConfigParser(delimiters=['='])
    cfg.read(top/'settings.ini', encoding='utf-8')
    names = f"{cfg['DEFAULT']['requirements']} {cfg['DEFAULT']['train_requirements']}".lower().split()
    assert not [o for o in names if '<' in o or '==' in o], 'lower bounds only'
    declared, known = {re.split('[>=]', o)[0] for o in names}, packages_distributions()
    for f in sorted((top/'bearclf').rglob('*.py')):
        for o in set(imported(f.read_text(encoding='utf-8'))) - set(sys.stdlib_module_names) - NOT_ASKED_FOR:
            assert declared & {d.lower() for d in known.get(o, [o])}, f'{f.name} imports {o}'
