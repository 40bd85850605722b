"""Figures against values counted by hand, by brute force and by a bootstrap written out."""

from __future__ import annotations

import math
import random
import sys

import numpy as np
import pytest
import sklearn.metrics as sk

from hubcli.errors import HubcliError, MissingExtraError, UsageError
from hubcli.training import metrics
from hubcli.training.compare import seeds

pytestmark = pytest.mark.filterwarnings("error")


def by_name(figures):
    return {figure.name: figure for figure in figures}


def wilson(hits: int, n: int) -> tuple[float, float]:
    z, p = 1.959963984540054, hits / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return ((middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n))


def brute(references, predicted, k):
    """Macro F1 and correlation from counts made in a loop."""
    table = [[0] * k for _ in range(k)]
    for one, other in zip(references, predicted, strict=True):
        table[one][other] += 1
    told, said = [sum(row) for row in table], [sum(col) for col in zip(*table, strict=True)]
    f1s = [2 * table[c][c] / (told[c] + said[c]) if told[c] + said[c] else None for c in range(k)]
    n, right = len(references), sum(table[c][c] for c in range(k))
    below = math.sqrt((n * n - sum(s * s for s in said)) * (n * n - sum(t * t for t in told)))
    mcc = (right * n - sum(t * s for t, s in zip(told, said, strict=True))) / below if below else 0.0
    return f1s, right, mcc


def rows(n, k, seed):
    rng = random.Random(seed)
    references = [rng.randrange(k) for _ in range(n)]
    return references, [one if rng.random() < 0.6 else rng.randrange(k) for one in references]


@pytest.mark.parametrize(("n", "k", "seed"), [(200, 2, 1), (57, 2, 2), (150, 3, 3), (40, 7, 4)])
def test_classes(n, k, seed):
    references, predicted = rows(n, k, seed)
    found = by_name(metrics.classified(references, predicted, [str(c) for c in range(k)]))
    f1s, right, mcc = brute(references, predicted, k)
    known = [f1 for f1 in f1s if f1 is not None]
    f1 = found["f1"] if k == 2 else found["f1_macro"]
    assert f1.value == pytest.approx(f1s[1] if k == 2 else sum(known) / len(known))
    assert found["mcc"].value == pytest.approx(mcc)
    assert found["accuracy"].value == right / n
    assert found["accuracy"].interval == pytest.approx(wilson(right, n))
    for figure in found.values():
        assert figure.n == n
        assert figure.interval[0] < figure.value < figure.interval[1]


def test_wilson_as_published():
    """Newcombe 1998, table I: 81 of 263 gives .2553 to .3662, 15 of 148 gives .0624 to .1605."""
    for hits, n, low, high in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)]:
        (accuracy, *_) = metrics.classified([1] * n, [1] * hits + [0] * (n - hits), ["a", "b"])
        assert accuracy.interval == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("k", [2, 3])
def test_bootstrap_is_paired_and_over_rows(k):
    references, predicted = rows(80, k, 5)
    found = by_name(metrics.classified(references, predicted, [str(c) for c in range(k)], seed=7))
    rng = np.random.default_rng(99)
    drawn = []
    for _ in range(2000):
        places = rng.integers(0, 80, 80)
        f1s, _, mcc = brute([references[i] for i in places], [predicted[i] for i in places], k)
        known = [f1 for f1 in f1s if f1 is not None]
        drawn.append((f1s[1] if k == 2 else sum(known) / len(known), mcc))
    want = np.percentile(drawn, [2.5, 97.5], axis=0)
    assert found["f1" if k == 2 else "f1_macro"].interval == pytest.approx(want[:, 0], abs=0.02)
    assert found["mcc"].interval == pytest.approx(want[:, 1], abs=0.03)
    again = by_name(metrics.classified(references, predicted, [str(c) for c in range(k)], seed=7))
    other = by_name(metrics.classified(references, predicted, [str(c) for c in range(k)], seed=8))
    assert again == found
    assert other["mcc"].interval != found["mcc"].interval


def test_draws_are_numpys(monkeypatch):
    """The very draws: numpy's generator by the seed, n places a draw."""
    losses, tokens = [3.0, 8.0, 2.0, 9.0, 4.0], [2, 3, 1, 5, 4]
    perplexity, loss = metrics.modelled(losses, tokens, seed=3)
    places = np.random.default_rng(3).integers(0, 5, (metrics.RESAMPLES, 5))
    drawn = np.asarray(losses)[places].sum(1) / np.asarray(tokens)[places].sum(1)
    assert loss.interval == pytest.approx(np.percentile(drawn, [2.5, 97.5]))
    assert loss.value == pytest.approx(26 / 15)
    assert perplexity.value == pytest.approx(math.exp(26 / 15))
    assert perplexity.interval == pytest.approx(np.exp(np.percentile(drawn, [2.5, 97.5])))
    assert (perplexity.n, loss.n) == (5, 5)
    monkeypatch.setattr(metrics, "AT_ONCE", 7)  # one draw a batch gives the same
    assert metrics.modelled(losses, tokens, seed=3) == [perplexity, loss]


@pytest.mark.timeout(60)
def test_many_classes_cost_no_table_of_all_pairs():
    references, predicted = rows(300, 5000, 6)
    found = by_name(metrics.classified(references, predicted, [str(c) for c in range(5000)]))
    assert found["mcc"].value == pytest.approx(sk.matthews_corrcoef(references, predicted))
    for figure in found.values():
        assert figure.interval[0] < figure.interval[1]


def test_figures_without_intervals():
    told, said = sentences(20, 0)
    for count in (
        lambda: metrics.classified(*rows(40, 3, 1), ["a", "b", "c"])[1:],
        lambda: metrics.tagged(told, said),
        lambda: metrics.modelled([3.0, 8.0, 2.0], [2, 3, 1]),
    ):
        with metrics.without_intervals():
            found = count()
        assert [(f.name, f.value) for f in found] == [(f.name, f.value) for f in count()]
        assert all(f.interval is None for f in found) and all(f.interval for f in count())


@pytest.mark.parametrize(
    ("references", "predicted", "f1", "interval"),
    [
        ([1], [1], 1.0, False),
        ([0], [1], 0.0, False),
        ([0], [0], 0.0, False),
        ([0, 0, 0], [0, 0, 0], 0.0, False),
        ([0, 1, 0, 1], [1, 1, 1, 1], 2 / 3, True),
        ([0, 1, 0, 1], [0, 0, 0, 0], 0.0, False),
        ([0, 1, 0, 1], [0, 1, 0, 1], 1.0, None),
    ],
)
def test_degenerate_classes(references, predicted, f1, interval, capfd):
    found = by_name(metrics.classified(references, predicted, ["no", "yes"]))
    assert found["f1"].value == pytest.approx(f1)
    assert interval is None or (found["f1"].interval is not None) == interval
    for figure in found.values():
        assert all(math.isfinite(x) for x in (figure.value, *(figure.interval or ())))
    three = by_name(metrics.classified(references, predicted, ["a", "b", "c"]))
    assert all(math.isfinite(x) for f in three.values() for x in (f.value, *(f.interval or ())))
    assert capfd.readouterr().err == ""


def spans(tags):
    """Spans of well-formed BIO, and of an I- without its B- as conlleval reads it."""
    found, start = [], None
    for place, tag in enumerate([*tags, "O"]):
        kind, _, name = tag.partition("-")
        if start is not None and (kind != "I" or name != start[1]):
            found.append((start[1], start[0], place - 1))
            start = None
        if kind == "B" or (kind == "I" and start is None):
            start = (place, name)
    return set(found)


def sentences(n, seed, rng_tags=("O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC")):
    rng = random.Random(seed)
    told = [[rng.choice(rng_tags) for _ in range(rng.randrange(1, 9))] for _ in range(n)]
    said = [[tag if rng.random() < 0.7 else rng.choice(rng_tags) for tag in row] for row in told]
    return told, said


@pytest.mark.parametrize("seed", range(4))
def test_tags(seed):
    told, said = sentences(60, seed)
    found = by_name(metrics.tagged(told, said))
    true = {(i, *span) for i, row in enumerate(told) for span in spans(row)}
    guess = {(i, *span) for i, row in enumerate(said) for span in spans(row)}
    precision, recall = len(true & guess) / len(guess), len(true & guess) / len(true)
    tokens = [one == other for a, b in zip(told, said, strict=True) for one, other in zip(a, b, strict=True)]
    want = {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall),
        "accuracy": sum(tokens) / len(tokens),
    }
    assert {name: figure.value for name, figure in found.items()} == pytest.approx(want)
    places = np.random.default_rng(0).integers(0, 60, (metrics.RESAMPLES, 60))
    hits = [len({s for s in true & guess if s[0] == i}) for i in range(60)]
    sizes = [len(spans(a)) + len(spans(b)) for a, b in zip(told, said, strict=True)]
    drawn = 2 * np.asarray(hits)[places].sum(1) / np.asarray(sizes)[places].sum(1)
    assert found["f1"].interval == pytest.approx(np.percentile(drawn, [2.5, 97.5]))
    for figure in found.values():
        assert figure.n == 60
        assert figure.interval[0] < figure.value < figure.interval[1]


@pytest.mark.parametrize(
    ("told", "said", "f1", "accuracy"),
    [
        ([["O", "O"]], [["O", "O"]], 0.0, 1.0),
        ([["B-X", "O"]], [["O", "O"]], 0.0, 0.5),
        ([["B-X"], []], [["B-X"], []], 1.0, 1.0),
        ([["U-X", "B-Y", "L-Y"]], [["U-X", "B-Y", "L-Y"]], 1.0, 1.0),
        ([["U-X", "U-X", "O"]], [["U-X", "O", "O"]], 2 / 3, 2 / 3),
        ([["B", "I", "O"]], [["B", "I", "B"]], 2 / 3, 2 / 3),
    ],
)
def test_degenerate_tags(told, said, f1, accuracy, capfd):
    found = by_name(metrics.tagged(told, said))
    assert (found["f1"].value, found["accuracy"].value) == (f1, accuracy)
    assert all(math.isfinite(x) for f in found.values() for x in (f.value, *(f.interval or ())))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("labels", "spans"),
    [
        (("O", "B-PER", "I-PER"), True),
        (("B-X", "I-X", "O", "E-X", "S-X", "L-Y", "U-Y"), True),
        (("O", "B", "I"), True),
        (("VB", "DT", "RB"), False),
        (("O", "OFFICE", "OTHER"), False),
        (("O", "B-PER", "I-PER", "X"), False),
        (("E", "S"), False),
    ],
)
def test_tags_that_spell_spans(labels, spans):
    assert metrics.spell_spans(labels) is spans


@pytest.mark.parametrize(("k", "seed"), [(2, 1), (3, 2), (17, 3)])
def test_tags_that_spell_no_spans_are_counted_over_words(k, seed):
    told, said = sentences(60, seed, rng_tags=range(k))
    flat = [[tag for row in side for tag in row] for side in (told, said)]
    found = metrics.tagged_words(told, said, k, seed=4)
    f1s, right, _ = brute(*flat, k)
    known = [f1 for f1 in f1s if f1 is not None]
    want = {"accuracy": right / len(flat[0]), "f1_macro_words": sum(known) / len(known)}
    assert {figure.name: figure.value for figure in found} == pytest.approx(want)
    places = np.random.default_rng(4).integers(0, 60, (metrics.RESAMPLES, 60))
    drawn = []
    for rows in places:
        f1s, right, _ = brute(*([tag for i in rows for tag in side[i]] for side in (told, said)), k)
        known = [f1 for f1 in f1s if f1 is not None]
        drawn.append((right / sum(len(told[i]) for i in rows), sum(known) / len(known)))
    for figure, own in zip(found, np.transpose(drawn), strict=True):
        assert figure.n == 60 and figure.interval == pytest.approx(np.percentile(own, [2.5, 97.5]))


def test_half_of_the_words_wrong_is_no_f1_of_one():
    """Tags that begin alike are other tags: 'VB' and 'DT' have letters that a reader of spans knows."""
    accuracy, f1 = metrics.tagged_words([[0, 1], [2, 3]], [[0, 2], [2, 1]], 4)
    assert (accuracy.value, f1.value) == (0.5, pytest.approx((1 + 0 + 2 / 3 + 0) / 4))


def test_rows_without_a_counted_token_say_nothing():
    assert metrics.modelled([3.0, 0.0, 5.0], [2, 0, 4]) == metrics.modelled([3.0, 5.0], [2, 4])
    (perplexity, loss) = metrics.modelled([4.0], [2])
    assert (loss.value, loss.interval, perplexity.interval) == (2.0, None, None)
    assert all(math.isfinite(figure.value) for figure in metrics.modelled([1e6], [1]))


def test_exact_match():
    (figure,) = metrics.matched([" a  b\n", "c", "D", "e"], ["a b", "c", "d", "x"])
    assert (figure.name, figure.value, figure.n) == ("exact_match", 0.5, 4)
    assert figure.interval == pytest.approx(wilson(2, 4))


def test_over_seeds():
    """t with 2 degrees of freedom is 4.30265; the deviation of 1, 2, 6 is sqrt(7)."""
    mean, interval = seeds.over_seeds([1.0, 2.0, 6.0])
    half = 4.302652729911275 * math.sqrt(7) / math.sqrt(3)
    assert (mean, interval) == (3.0, pytest.approx((3 - half, 3 + half)))
    assert seeds.over_seeds([0.5]) == (0.5, None)
    assert seeds.over_seeds([0.5, 0.5]) == (0.5, (0.5, 0.5))
    assert seeds.paired([3.0, 5.0, 10.0], [2.0, 3.0, 4.0]) == (3.0, pytest.approx((3 - half, 3 + half)))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: metrics.classified([], [], ["a", "b"]), "no rows"),
        (lambda: metrics.classified([1], [1, 0], ["a", "b"]), "1 and 2"),
        (lambda: metrics.tagged([["O"]], [["O", "O"]]), "1 and 2"),
        (lambda: metrics.tagged_words([[0]], [[0, 1]], 2), "1 and 2"),
        (lambda: metrics.tagged_words([[]], [[]], 2), "no words"),
        (lambda: metrics.modelled([1.0], [0]), "no token"),
        (lambda: seeds.paired([1.0], []), "1 and 0"),
        (lambda: seeds.over_seeds([]), "no values"),
    ],
)
def test_refused(call, said):
    with pytest.raises(UsageError, match=said):
        call()


def test_a_loss_that_is_no_number():
    with pytest.raises(HubcliError, match="row 2: expected a finite loss, found nan"):
        metrics.modelled([1.0, math.nan], [1, 1])


def test_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(MissingExtraError) as told:
        metrics.classified([0, 1], [0, 1], ["a", "b"])
    assert "hubcli[train]" in told.value.hint
