"""Applies a map of file moves to a checkout and rewrites every import, dotted name and path that names what moved.

    python relayout.py MAP.json [--dry]
MAP.json: {"files": {old: new}, "folders": {old: new}, "rename_names": true}
"""
import ast, json, os, re, subprocess, sys
from pathlib import Path

spec = json.loads(Path(sys.argv[1]).read_text())
tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.split("\n")
tracked = [t for t in tracked if t]
moves = {}
for f in tracked:
    if f in spec["files"]:
        moves[f] = spec["files"][f]
        continue
    best = max((o for o in spec["folders"] if f.startswith(o + "/")), key=len, default=None)
    if best:
        moves[f] = spec["folders"][best] + f[len(best):]
for f in spec["files"]:
    if f not in tracked:
        print("not there:", f)

def module_of(path):
    parts = path[:-3].split("/")
    if parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(parts)

py = [f for f in tracked if f.endswith(".py")]
old_modules = {module_of(f): f for f in py if f.split("/")[0] in ("lkops", "lkcanet", "bench", "tests")}
new_of_module = {m: module_of(moves.get(f, f)) for m, f in old_modules.items()}
assert len(set(new_of_module.values())) == len(new_of_module), "two modules in one place"

def relative(package, target):
    """`target` module as a relative base from a module of `package` (its __package__)."""
    a, b = package.split("."), target.split(".")
    if a[0] != b[0]:
        return None
    i = 0
    while i < min(len(a), len(b)) and a[i] == b[i]:
        i += 1
    return "." * (len(a) - i + 1) + ".".join(b[i:])

def rewrite(path):
    text = Path(path).read_text()
    tree = ast.parse(text)
    newpath = moves.get(path, path)
    oldmod, newmod = module_of(path), module_of(newpath)
    oldpkg = oldmod if path.endswith("__init__.py") else oldmod.rpartition(".")[0]
    newpkg = newmod if newpath.endswith("__init__.py") else newmod.rpartition(".")[0]
    lines = text.split("\n")
    edits = []  # (start line, end line, col, new text)
    renames = {}
    stores = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    stores |= {a.arg for n in ast.walk(tree) if isinstance(n, ast.arguments) for a in [*n.args, *n.kwonlyargs, *n.posonlyargs, *filter(None, [n.vararg, n.kwarg])]}
    stores |= {n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    allnames = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} | stores
    bound_all = {}
    for n in ast.walk(tree):
        if isinstance(n, (ast.Import, ast.ImportFrom)):
            for a in n.names:
                bound_all[a.asname or a.name.partition(".")[0]] = 1
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level:
            base = oldpkg.split(".")
            base = base[: len(base) - node.level + 1]
            absolute = ".".join(base + (node.module.split(".") if node.module else []))
        else:
            absolute = node.module
        if absolute not in old_modules:
            continue
        groups = {}
        changed = False
        for a in node.names:
            full = f"{absolute}.{a.name}"
            if full in old_modules and not (a.name in getattr_names(absolute)):
                target = new_of_module[full]
                parent, _, leaf = target.rpartition(".")
                bound = a.asname or a.name
                want = bound
                if a.asname is None and leaf != a.name:
                    if a.name not in stores and leaf not in allnames and leaf not in bound_all:
                        renames[a.name] = leaf
                        want = leaf
                groups.setdefault(parent, []).append(leaf if want == leaf else f"{leaf} as {want}")
            else:
                target = new_of_module[absolute]
                groups.setdefault(target, []).append(a.name + (f" as {a.asname}" if a.asname else ""))
        statements = []
        for target, names in groups.items():
            where = relative(newpkg, target) if node.level else target
            if where is None:
                where = target
            statements.append(f"from {where} import {', '.join(names)}")
        segment = ast.get_source_segment(text, node)
        flat = re.sub(r"\s+", " ", segment)
        flat = re.sub(r"\(\s*|\s*,?\s*\)", "", flat)
        if statements == [flat]:
            continue
        indent = " " * node.col_offset
        # a comment at the end of the statement's last line stays
        tail = lines[node.end_lineno - 1][node.end_col_offset:]
        edits.append((node.lineno, node.end_lineno, [("" if i else lines[node.lineno - 1][: node.col_offset]) + ("" if not i else indent) + s + (tail if i == len(statements) - 1 else "") for i, s in enumerate(statements)]))
    if renames:
        # usage: Name nodes
        spots = [(n.lineno, n.col_offset, n.id) for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id in renames]
        covered = [range(s, e + 1) for s, e, _ in edits]
        for line, col, name in sorted(spots, reverse=True):
            if any(line in c for c in covered):
                continue
            raw = lines[line - 1].encode()
            assert raw[col: col + len(name)].decode() == name, (path, line, name)
            lines[line - 1] = (raw[:col] + renames[name].encode() + raw[col + len(name):]).decode()
    for start, end, new in sorted(edits, key=lambda e: e[0], reverse=True):
        lines[start - 1: end] = new
    result = "\n".join(lines)
    if renames:  # in f-strings (python 3.11 gives no right positions) nothing is renamed: checked by hand
        for old in renames:
            for m in re.finditer(r'f"[^"]*\{[^}]*\b' + re.escape(old) + r"\.", result):
                print("f-string:", path, m.group()[:80])
    return result

_attribute_cache = {}
def getattr_names(module):
    """Names that a package's __init__ binds itself, which win over submodules of the same name."""
    if module not in _attribute_cache:
        path = old_modules[module]
        names = set()
        if path.endswith("__init__.py"):
            for n in ast.parse(Path(path).read_text()).body:
                if isinstance(n, ast.ImportFrom):
                    for a in n.names:
                        full = None
                        if n.level == 1 and n.module is None:
                            full = f"{module}.{a.name}"
                        if full not in old_modules:
                            names.add(a.asname or a.name)
        _attribute_cache[module] = names
    return _attribute_cache[module]

dotted = {m: n for m, n in new_of_module.items() if m != n and "." in m and not n.startswith(m + ".")}
dotted_re = re.compile(r"(?<![\w.])(" + "|".join(re.escape(m) for m in sorted(dotted, key=len, reverse=True)) + r")(?![\w/])") if dotted else None
# paths in text: files, then folders
path_map = {**{o: n for o, n in moves.items()}, **spec["folders"]}
path_re = re.compile(r"(?<![\w./-])(" + "|".join(re.escape(m) for m in sorted(path_map, key=len, reverse=True)) + r")(?![\w-])")
include_map = {o.removeprefix("csrc/"): n.removeprefix("csrc/") for o, n in moves.items() if o.startswith("csrc/")}
include_re = re.compile(r'(#include ")(' + "|".join(re.escape(m) for m in sorted(include_map, key=len, reverse=True)) + r')(")') if include_map else None

TEXT = (".py", ".md", ".toml", ".in", ".yml", ".yaml", ".cpp", ".h", ".cu", ".cuh", ".cc", ".json")
out = {}
for f in tracked:
    if f.endswith(".py") and f.split("/")[0] in ("lkops", "lkcanet", "bench", "tests"):
        text = rewrite(f)
    elif f.endswith(TEXT) or f in ("Makefile", "setup.py", ".gitignore", "tests/csrc/Makefile"):
        if f.startswith("bench/results/"):
            continue
        text = Path(f).read_text()
    else:
        continue
    if dotted_re:
        text = dotted_re.sub(lambda m: dotted[m[1]], text)
    text = path_re.sub(lambda m: path_map[m[1]], text)
    if include_re:
        text = include_re.sub(lambda m: m[1] + include_map[m[2]] + m[3], text)
    for pattern, new, only in spec.get("substitutions", []):
        if re.search(only, f):
            text = re.sub(pattern, new, text)
    if text != Path(f).read_text():
        out[f] = text
if "--dry" in sys.argv:
    print(len(moves), "moves", len(out), "rewritten")
    sys.exit()
for f, text in out.items():
    Path(f).write_text(text)
for old, new in moves.items():
    Path(new).parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "mv", old, new], check=True)
print(len(moves), "moves", len(out), "rewritten")
