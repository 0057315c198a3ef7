"""Splits that the map of moves can't say; run after relayout.py in the checkout's root."""
import ast, re, subprocess
from pathlib import Path

def span(lines, node):
    start = min([d.lineno for d in getattr(node, "decorator_list", [])] + [node.lineno]) - 1
    while start and lines[start - 1].startswith("#"):
        start -= 1
    return start, node.end_lineno

def names_of(node):
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)): return {node.name}
    if isinstance(node, ast.Assign):
        out = set()
        for t in node.targets:
            out |= {n.id for n in ast.walk(t) if isinstance(n, ast.Name)}
        return out
    if isinstance(node, ast.AnnAssign): return {node.target.id}
    return set()

def carve(src, dst, names, doc, extra="", all_=None):
    text = Path(src).read_text(); lines = text.split("\n"); tree = ast.parse(text)
    imports, taken, cut = [], [], []
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            imports.append("\n".join(lines[node.lineno - 1: node.end_lineno]))
        elif names_of(node) & set(names):
            a, b = span(lines, node); taken.append("\n".join(lines[a:b])); cut.append((a, b))
    missing = set(names) - set().union(*[names_of(n) for n in tree.body])
    assert not missing, (src, missing)
    for a, b in reversed(cut): del lines[a:b]
    Path(src).write_text("\n".join(lines))
    body = "\n\n\n".join(taken) + "\n"
    if Path(dst).exists():
        old = Path(dst).read_text(); t = ast.parse(old); ol = old.split("\n")
        last = max(n.end_lineno for n in t.body if isinstance(n, (ast.Import, ast.ImportFrom)) or (isinstance(n, ast.Expr) and n is t.body[0]))
        Path(dst).write_text("\n".join(ol[:last]) + "\n" + "\n".join(imports) + "\n" + extra + "\n" + "\n".join(ol[last:]) + "\n\n" + body)
    else:
        a = f"\n__all__ = {all_!r}\n" if all_ else ""
        Path(dst).write_text(f'"""{doc}"""\n\n' + "\n".join(imports) + "\n" + extra + "\n" + a + "\n\n" + body)
        subprocess.run(["git", "add", dst])

def sub(path, *pairs):
    s = Path(path).read_text()
    for a, b in pairs:
        assert re.search(a, s), (path, a)
        s = re.sub(a, b, s)
    Path(path).write_text(s)

def split_import(names):
    names = [n.strip() for n in names.split(",")]
    mine = [n for n in names if n in ("BEST", "LAST", "LOG", "TrainResult")]
    rest = [n for n in names if n not in mine]
    return f"from .result import {', '.join(mine)}" + (f"\nfrom . import {', '.join(rest)}" if rest else "")

O = "lkcanet/objectives/"
init = O + "__init__.py"
carve(init, O + "base.py", ["Batch", "Objective"], "A loss of a network on a batch, and what learns along with it.", all_=["Batch", "Objective"])
carve(init, O + "supervised.py", ["HObjective"], "The supervised objective: the H loss of the network's image.", "from .base import Batch, Objective\n", all_=["HObjective"])
carve(init, O + "distillation.py", ["KDObjective"], "", "from .base import Batch\nfrom .supervised import HObjective\n")
sub(O + "distillation.py", (r"from \.distillation import Distillation\n", ""), (r'__all__ = \["Distillation", "check_pair"\]', '__all__ = ["Distillation", "KDObjective", "check_pair"]'))
carve(init, O + "choice.py", ["objective_for", "_online"], "Which objective a network is trained with.", "from .base import Objective\nfrom .supervised import HObjective\nfrom .csakd import OnlineDistillation\nfrom .csakd_losses import CSAKDWeights\nfrom .edlgfs import EdgeDistillation\n", all_=["objective_for"])
sub(O + "choice.py", (r'import_module\("\.edlgfs", __package__\)\.EdgeDistillation', "EdgeDistillation"), (r'import_module\("\.csakd_losses", __package__\)\.CSAKDWeights', "CSAKDWeights"), (r'import_module\("\.csakd", __package__\)\.OnlineDistillation', "OnlineDistillation"))
for f in ("csakd.py", "edlgfs.py"):
    sub(O + f, (r"from \. import Batch, Objective", "from .base import Batch, Objective"))
text = Path(init).read_text(); doc = ast.get_docstring(ast.parse(text))
Path(init).write_text('"""' + doc + '"""\n\nfrom .base import Batch, Objective\nfrom .choice import objective_for\nfrom .distillation import KDObjective\nfrom .supervised import HObjective\n\n__all__ = ["Batch", "HObjective", "KDObjective", "Objective", "objective_for"]\n')

T = "lkcanet/training/"
carve(T + "__init__.py", T + "result.py", ["BEST", "TrainResult"], "What a run leaves behind: its files, and what is known of them.", all_=["BEST", "LAST", "LOG", "TrainResult"])
sub(T + "__init__.py", (r"from \.prepare import", "from .result import BEST, LAST, TrainResult\nfrom .prepare import"))
for f in ("keeper.py", "lightning.py"):
    s = Path(T + f).read_text()
    s = re.sub(r"from \. import ([^\n]*(?:BEST|TrainResult)[^\n]*)", lambda m: split_import(m[1]), s)
    Path(T + f).write_text(s)

carve(T + "state.py", "lkcanet/common/digest.py", ["digest"], "A digest of tensors, by which a change is noticed.", all_=["digest"])
sub(T + "state.py", (r"from \.\.common\.files import", "from ..common.digest import digest\nfrom ..common.files import"))
sub(O + "distillation.py", (r"        digest = _state\.digest\(self\.teacher\.state_dict\(\)\)\n", ""), (r'"digest": digest\}', '"digest": digest(self.teacher.state_dict())}'), (r"from \.base import Batch\n", "from ..common.digest import digest\nfrom .base import Batch\n"))
subprocess.run(["ruff", "check", "--fix", "-q", "lkcanet"]); subprocess.run(["ruff", "format", "-q", "lkcanet"])
