"""Moves the words beyond column 120 of prose lines (docstrings, comments) to the line below."""
import json, re, subprocess, sys
from pathlib import Path
left = []
for _ in range(12):
    out = json.loads(subprocess.run(["ruff","check",".","--select","E501","--output-format","json"],capture_output=True,text=True).stdout or "[]")
    if not out: break
    changed = False
    left = []
    seen = set()
    for d in sorted(out, key=lambda d: -d["location"]["row"]):
        f, row = d["filename"], d["location"]["row"]
        lines = Path(f).read_text().split("\n")
        line = lines[row-1]
        nxt = lines[row] if row < len(lines) else ""
        m = re.match(r"\s*(#|//)? ?", line); 
        prefix = re.match(r"(\s*)((?:#|//) ?)?", line).group()
        nprefix = re.match(r"(\s*)((?:#|//) ?)?", nxt).group()
        words = line.rstrip().split(" ")
        code = re.search(r'^\s*("|f"|return|[a-z_]+ =|assert|\[|\(|command|raise|with|if|def|expected)', line) and not line.strip().startswith('"""')
        if code or line.rstrip().endswith('"""'):
            left.append((f,row)); continue
        moved = []
        while len(" ".join(words)) > 120:
            moved.insert(0, words.pop())
        first = line.strip().startswith('"""')
        if ("#" in prefix) != ("#" in nprefix) or ("//" in prefix) != ("//" in nprefix) or nxt.strip() == "" or nxt.strip() == '"""' or re.match(r"\s*[a-z_, ]+:", nxt) and nprefix != prefix or (first and len(nprefix) > len(prefix)):
            new = prefix + " ".join(moved)
            lines[row-1:row] = [" ".join(words), new]
        else:
            lines[row-1] = " ".join(words)
            lines[row] = nprefix + " ".join(moved) + " " + nxt[len(nprefix):]
        Path(f).write_text("\n".join(lines)); changed = True
    if not changed: break
for f,row in left: print("by hand:", f, row)
