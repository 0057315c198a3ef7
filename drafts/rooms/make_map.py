import json
from pathlib import Path

HERE = Path(__file__).parent
R={"attention":"large_kernel_channel_attention","bicubic":"bicubic_upsample","block":"lk_block","depthwise":"depthwise_conv2d","gating":"channel_attention","losses":"spectral_losses","projection":"norm_conv1x1_gelu","upsample":"upsample_add"}
folders={}
files={}
for o,n in R.items():
    folders[f"lkops/{o}"]=f"lkops/ops/{n}"
    folders[f"csrc/{o}"]=f"csrc/{n}"
    files[f"csrc/bindings/{o}.cpp"]=f"csrc/bindings/{n}.cpp"
    files[f"tests/csrc/test_{o}.cpp"]=f"tests/csrc/test_{n}.cpp"
    files[f"csrc/bindings/cuda/{o}.cpp"]=f"csrc/bindings/cuda/{n}.cpp"
    files[f"tests/csrc/cuda_{o}.cpp"]=f"tests/csrc/cuda_{n}.cpp"
for o in ("attention","block"):
    files[f"csrc/bindings/{o}.h"]=f"csrc/bindings/{R[o]}.h"
    files[f"csrc/bindings/{o}_backward.cpp"]=f"csrc/bindings/{R[o]}_backward.cpp"
files["tests/csrc/attention.h"]="tests/csrc/large_kernel_channel_attention.h"
for o,n in {"_operator":"operator","_library":"library","_extension":"extension","_checks":"checks","_triton":"triton_ops"}.items():
    files[f"lkops/{o}.py"]=f"lkops/_core/{n}.py"
L=lambda o,n: files.__setitem__(f"lkcanet/{o}.py",f"lkcanet/{n}.py")
L("_files","common/files");L("_optional","common/optional");L("_signals","common/signals")
for o in "arrays envi geotiff matlab readers writers".split(): L(f"data/{o}",f"data/formats/{o}")
L("data/_envi_lines","data/formats/envi_lines");L("data/_envi_writer","data/formats/envi_writer");L("data/_raw","data/formats/raw")
L("data/_manifest","data/manifest");L("data/_sources","data/sources")
L("data/reported","evaluation/reported")
L("models/_csakd_blocks","models/csakd_blocks");L("models/_edlgfs_blocks","models/edlgfs_blocks")
for o in "metrics scoring tables pictures figures".split(): L(o,f"evaluation/{o}")
L("_metric_inputs","evaluation/metric_inputs")
L("benchmark","benchmark/__init__");L("_checking","benchmark/checking");L("_providers","benchmark/providers");L("speed","benchmark/speed")
for o in ("eager","eager_csakd","eager_edlgfs"): L(o,f"benchmark/{o}")
for o in ("export","compression","rank"): L(o,f"deploy/{o}")
L("inference","inference/__init__")
for o in ("graphs","strips","tiles","memory","mapped"): L("_"+o,f"inference/{o}")
L("training","training/__init__")
for o in ("batches","keeper","lightning","log","module","prepare","state","options"): L("_"+o,f"training/{o}")
L("objectives","objectives/__init__");L("losses","objectives/losses");L("distillation","objectives/distillation");L("csakd_losses","objectives/csakd_losses");L("csakd_objective","objectives/csakd");L("edge_objective","objectives/edlgfs")
subs=[]
for o,n in R.items():
    subs.append([rf'"{o}\.([a-z_]+)"', rf'"{n}.\1"', r"^(lkops/(?!fusion|nn).*|lkops/triton/table.json|tests/lkops/test_t.*|bench/.*)$"])
json.dump({"files":files,"folders":folders,"substitutions":subs},open(str(HERE / "map.json"),"w"),indent=1)
print(len(files),len(folders))
spec=json.load(open(str(HERE / "map.json"))); files,folders,subs=spec["files"],spec["folders"],[]
B=lambda o,n: files.__setitem__(f"bench/{o}.py",f"bench/{n}.py")
for o in "report rows worker".split(): B("cpu_"+o,"cpu/"+o)
for o in "run limits never_slower test_cpu other_networks fusion inference_memory".split(): B(o,"cpu/"+o)
for o in "cascade clock measure report rows run sanitize worker".split(): B("gpu_"+o,"gpu/"+o)
B("gpu","gpu/gate"); B("tune","gpu/tune"); B("tune_clock","gpu/tune_clock")
for o in "ahead_of_time compiled cuda_ahead_of_time cuda_report_notes estimate traffic work".split(): B(o,"without_gpu/"+o)
B("oil_painting","experiments/oil_painting")
L("inference/memory","inference/footprint"); files.pop("lkcanet/inference/memory.py"); L("_memory","inference/footprint")
L("_options","common/options")
T=lambda d,o,n=None: files.__setitem__(f"tests/{o}.py",f"tests/{d}/{(n or o).split('/')[-1]}.py")
import subprocess,os
R2={"attention":"large_kernel_channel_attention","bicubic":"bicubic_upsample","block":"lk_block","depthwise":"depthwise_conv2d","gating":"channel_attention","losses":"spectral_losses","projection":"norm_conv1x1_gelu","upsample":"upsample_add"}
tk={"ops":"attention_backward_kernel attention_kernel bicubic_kernel depthwise_kernel gating_kernel losses_kernel projection_kernel projection_cpu upsample_kernel contract contract_shapes concurrency arguments references kernels_to_come compile instruction_sets cuda_block cuda_on_the_host measured",
"fusion":"fusion fusion_patterns fusion_uses","lowrank":"approximation compress lowrank lowrank_robustness",
"triton":"triton_ahead_of_time triton_launches triton_table cuda_ahead_of_time tune","build":"build sanitizers","":"backends nn"}
for d,names in tk.items():
    if d:
        for n in names.split(): T(f"lkops/{d}",f"lkops/test_{n}")
for n in ("foreign","foreign_attention","foreign_convs"): T("lkops/fusion",f"lkops/{n}")
lk={"data":"degrade envi envi_writer geotiff geotiff_writer masks multispectral patches prepared prepared_folders protocols real_scenes scenes splits synthetic writers",
"models":"baselines csakd edlgfs models","objectives":"csakd_losses csakd_objective edge_objective","training":"csakd_training distill edlgfs_training fusion_training training training_devices training_finite training_kills training_material training_resume",
"inference":"inference inference_memory tiles","evaluation":"figures metrics tables","benchmark":"benchmark eager cpu_kernels","deploy":"compression export rank","commands":"cli demo fusion_cli geo_cli prepared_cli super_resolve_command reliability","common":"files"}
for d,names in lk.items():
    for n in names.split(): T(f"lkcanet/{d}",f"lkcanet/test_{n}")
T("lkcanet/training","lkcanet/training_helpers");T("lkcanet/training","lkcanet/fusion_helpers");T("lkcanet/data","lkcanet/protocol_helpers")
T("bench/cpu","bench/test_cpu_rows");T("bench/gpu","bench/test_gpu");T("bench/without_gpu","bench/test_estimate");T("bench/experiments","bench/test_experiments")
moved=[n for o,n in files.items() if o.startswith("tests/") and n.endswith(".py")]
subs.append([r"Path\(__file__\)\.parents\[3\]", "Path(__file__).parents[4]", "^("+"|".join(o for o in files if o.startswith("tests/") and o.endswith(".py"))+")$"])
subs.append([r"Path\(__file__\)\.parents\[2\]", "Path(__file__).parents[3]", "^("+"|".join(o for o in files if o.startswith("tests/") and o.endswith(".py"))+")$"])
keys=json.load(open("lkops/triton/table.json"))
for k in keys:
    r,n=k.split("."); subs.append([rf'"{r}\.{n}', f'"{R2[r]}.{n}', r"^(lkops|bench|tests)/.*\.(py|json)$"])
for o in ("forward","backward","sums","means","other"): pass
json.dump({"files":files,"folders":folders,"substitutions":subs},open(str(HERE / "map.json"),"w"),indent=1)
spec=json.load(open(str(HERE / "map.json"))); subs=spec["substitutions"]
def S(p,n,f): subs.append([p,n,f])
S(r'Path\(__file__\)\.parent / "results"','Path(__file__).parents[1] / "results"',r"^bench/(fusion|never_slower)\.py$")
S(r'Path\(__file__\)\.with_name\("results"\)','Path(__file__).parents[1] / "results"',r"^bench/(ahead_of_time|cuda_ahead_of_time)\.py$")
S(r'Path\(__file__\)\.parents\[2\]','Path(__file__).parents[3]',r"^bench/oil_painting\.py$")
S(r'Path\(__file__\)\.with_name\("_build_facts.json"\)','Path(__file__).parents[1] / "_build_facts.json"',r"^lkops/_extension\.py$")
S(r'import_module\("\.edge_objective", __package__\)','import_module(".edlgfs", __package__)',r"^lkcanet/objectives\.py$")
S(r'import_module\("\.csakd_objective", __package__\)','import_module(".csakd", __package__)',r"^lkcanet/objectives\.py$")
S(r'TABLE\.parents\[1\] / room','TABLE.parents[1] / "ops" / room',r"^tests/lkops/test_triton_table\.py$")
json.dump(spec,open(str(HERE / "map.json"),"w"),indent=1)
spec=json.load(open(str(HERE / "map.json"))); subs=spec["substitutions"]
S(r'config\(f"upsample\.', 'config(f"upsample_add.', r"^lkops/upsample/.*\.py$")
S(r'"gating\.(sums|scale|unknown)"', r'"channel_attention.\1"', r"^tests/.*\.py$")
json.dump(spec,open(str(HERE / "map.json"),"w"),indent=1)
spec=json.load(open(str(HERE / "map.json"))); files=spec["files"]; subs=spec["substitutions"]
files["lkops/_memory.py"]="lkops/_core/memory.py"
L("_bar","training/bar"); L("_rehearsal","training/rehearsal")
for o in "bits harness options problems drawing".split(): files.pop(f"tests/lkops/{o}.py",None)
new={"lkops/ops":"test_bits bits harness options problems drawing test_drawn_shapes test_large_values test_losses_floor_kernel test_memory test_module_options test_nan test_options test_strides_of_private_ops","lkops/fusion":"test_fusion_check test_fusion_hooks","lkops/build":"building test_compilers test_objects test_oldest_torch test_source_distribution test_imports",
"lkcanet/commands":"test_command_lines test_regions","lkcanet/training":"test_rehearsal test_training_interrupted","lkcanet/evaluation":"test_floor","lkcanet/models":"test_foreign_checkpoints"}
for d,names in new.items():
    for n in names.split(): T(d,f"{d.split('/')[0]}/{n}")
movedtests="^("+"|".join(o for o in files if o.startswith("tests/") and o.endswith(".py"))+")$"
for s in subs:
    if s[0].startswith("Path\\(__file__\\)\\.parents") and s[2].startswith("^(tests"): s[2]=movedtests
S(r'tests/lkops/bits\.json','tests/lkops/ops/bits.json',r".*")
files["tests/lkops/bits.json"]="tests/lkops/ops/bits.json"
json.dump(spec,open(str(HERE / "map.json"),"w"),indent=1)
S(r'cwd=here\.parents\[1\]','cwd=here.parents[2]',r"^tests/lkops/test_instruction_sets\.py$")
json.dump(spec,open(str(HERE / "map.json"),"w"),indent=1)
L("models/_foreign","models/foreign")
json.dump(spec,open(str(HERE / "map.json"),"w"),indent=1)
