#!/bin/sh
# The main job from end to end, printing each command before it runs. `make demo` calls it; it needs no network.
set -eu
rm -rf "${HUBCLI_HOME:?}"

say() { printf '\n$ %s\n' "$*"; }
run() { say "$@"; "$@"; }

run hubcli search sentiment
run hubcli install sentiment/bert-lora
run hubcli install sentiment/bert-lora
say 'hubcli run sentiment/bert-lora "a gripping film" "two hours I want back"'
hubcli run sentiment/bert-lora "a gripping film" "two hours I want back"
run hubcli verify

say python
cat <<'PY'
from hubcli import load_adapter
adapted = load_adapter("sentiment/bert-lora")
for prediction in adapted.predict(["a gripping film", "two hours I want back"]):
    print(prediction)
PY
printf '\n'
python - <<'PY'
from hubcli import load_adapter
adapted = load_adapter("sentiment/bert-lora")
for prediction in adapted.predict(["a gripping film", "two hours I want back"]):
    print(prediction)
PY
