# Moves everything, in the root of a checkout: bash FOLDER/apply.sh (a copy of this folder outside the checkout)
set -e
here=$(dirname "$(realpath "$0")")
python3 "$here/public.py" > "$here/extra/public_imports.json"   # remove is_plain_cpu from it
python3 "$here/make_map.py"
python3 "$here/relayout.py" "$here/map.json" | tail -1
for d in lkops/_core lkops/ops lkcanet/common lkcanet/evaluation lkcanet/deploy lkcanet/data/formats bench/cpu bench/gpu bench/without_gpu $(ls -d tests/lkops/*/ tests/lkcanet/*/ tests/bench/*/ | grep -v __pycache__); do [ -e $d/__init__.py ] || touch $d/__init__.py; done
ruff check --fix -q . > /dev/null || true
ruff format -q .
python3 "$here/wrap.py"
ruff format -q .
python3 "$here/post.py"
# commit here; then `git apply -3 operator.patch` (an operator is an object: made on this layout), then finish.py
