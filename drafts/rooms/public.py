import ast, json, sys
from pathlib import Path
out={}
for root in ("lkops","lkcanet"):
    for p in sorted(Path(root).rglob("*.py")):
        parts=list(p.with_suffix("").parts)
        if parts[-1]=="__init__": parts=parts[:-1]
        if any(x.startswith("_") for x in parts) or parts[:2]==["lkcanet","commands"] or parts[-1].startswith(("triton_","cuda_")) or parts[-1] in("wide","device"): continue
        tree=ast.parse(p.read_text()); names=None
        for n in tree.body:
            if isinstance(n,ast.Assign) and any(isinstance(t,ast.Name) and t.id=="__all__" for t in n.targets):
                names=ast.literal_eval(n.value)
        if names is None:
            names=[n.name for n in tree.body if isinstance(n,(ast.FunctionDef,ast.ClassDef)) and not n.name.startswith("_")]
        out[".".join(parts)]=sorted(names)
print(json.dumps(out,indent=1))
