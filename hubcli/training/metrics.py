"""Figures of a task with 95 % confidence intervals: what was measured, on how many rows, and how sure that is.

scikit-learn counts classes, seqeval spans, scipy gives intervals; they come with the extra `train` and are imported where they
serve. A proportion of rows has Wilson's interval. What is no proportion has a percentile bootstrap over rows: drawn by a seed, a
row's reference and answer together. Where every draw gives the same value a bootstrap knows nothing: the interval is None.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from hubcli.errors import HubcliError, MissingExtraError, UsageError

Interval = tuple[float, float]
Array = Any  # a numpy array; numpy is imported where it serves
LIBRARIES = ("sklearn", "scipy", "seqeval")
LEVEL = 0.95
RESAMPLES = 2000
AT_ONCE = 4_000_000  # numbers that one batch of resamples holds
MOST = 700.0  # nats a token whose perplexity still is a number
SPAN_TAG = re.compile("O|[BI]|[BIESLU]-.+")  # BIO, BIOES and BILOU; bare B and I, of spans of one type
_BIOES = {"L-": "E-", "U-": "S-"}  # BILOU's last and unit, as seqeval knows them
_DRAWS = ContextVar("_DRAWS", default=True)
LOWER_IS_BETTER = frozenset({"perplexity", "loss"})


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric: its value, the rows that it was counted on, and its 95 % interval where there is one."""

    name: str
    value: float
    n: int
    interval: Interval | None = None


def classified(
    references: Sequence[int], predicted: Sequence[int], labels: Sequence[str], seed: int = 0
) -> list[Figure]:
    """Accuracy, F1 and Matthews' correlation of class numbers (places in `labels`).

    Of two labels, `f1` is that of the second (yes, of "no" and "yes"); of more, `f1_macro` is the plain mean over those that
    occur among references or answers. What is undefined, such as the F1 of a label that nowhere occurs, counts 0.

    Raises:
        UsageError: no rows, or not one answer a reference. MissingExtraError: scikit-learn or scipy is not installed.
    """
    same_length(references, predicted)
    np, sk, n = library("numpy"), library("sklearn.metrics"), len(references)
    k = max(len(labels), *(1 + max(side) for side in (references, predicted)))
    from hubcli.training import class_counts as counts

    told, said = np.asarray(references), np.asarray(predicted)
    two = len(labels) == 2 and k == 2
    with quiet():
        correct = int(sk.accuracy_score(references, predicted, normalize=False))
        if two:
            f1 = sk.f1_score(references, predicted, labels=[0, 1], pos_label=1, zero_division=0.0)
        else:
            f1 = sk.f1_score(references, predicted, average="macro", zero_division=0.0)
        mcc = float(counts.mcc(counts.counted(told, said, k)))

    def over(statistic: Callable[[Array], Array]) -> Interval | None:
        return _bootstrap(lambda rows: statistic(counts.counted(told[rows], said[rows], k)), n, seed, wide=3 * k)

    return [
        _share("accuracy", correct, n),
        Figure("f1" if two else "f1_macro", float(f1), n, over(counts.second_f1 if two else counts.macro_f1)),
        Figure("mcc", float(mcc), n, over(counts.mcc)),
    ]


def tagged(references: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], seed: int = 0) -> list[Figure]:
    """F1, precision and recall of the spans that tags (BIO, BIOES, BILOU) spell, and accuracy a token. n counts sentences.

    A span is right when its type, first and last token are. Spans are read as conlleval reads them: an I- with no B- before it
    begins one.

    Raises:
        UsageError: no rows, or not one answer a token. MissingExtraError: seqeval or scipy is not installed.
    """
    _same_words(references, predicted)
    np, seqeval = library("numpy"), library("seqeval.metrics")
    told, said = ([[_BIOES.get(t[:2], t[:2]) + t[2:] for t in row] for row in side] for side in (references, predicted))
    with quiet():
        counts = np.asarray([_counts(one, other) for one, other in zip(told, said, strict=True)])
        point = {
            "f1": seqeval.f1_score(told, said, zero_division=0),
            "precision": seqeval.precision_score(told, said, zero_division=0),
            "recall": seqeval.recall_score(told, said, zero_division=0),
            "accuracy": _ratio(counts[:, 3].sum(), counts[:, 4].sum()),
        }

    def over(name: str) -> Interval | None:
        return _bootstrap(lambda rows: _SPANS[name](counts[rows].sum(-2)), len(told), seed, wide=5 * len(told))

    return [Figure(name, float(value), len(told), over(name)) for name, value in point.items()]


def spell_spans(labels: Iterable[str]) -> bool:
    """Whether tags spell spans: each is O, or says where in a span of its type a word stands."""
    return all(SPAN_TAG.fullmatch(label) for label in labels)


def tagged_words(
    references: Sequence[Sequence[int]], predicted: Sequence[Sequence[int]], labels: int, seed: int = 0
) -> list[Figure]:
    """Accuracy, and the mean F1 of the tags that occur, over words: of tags (as ids below `labels`) that spell no spans.

    n counts sentences, and these are what the intervals draw.

    Raises:
        UsageError: no words, or not one answer a word. MissingExtraError: scikit-learn or scipy is not installed.
    """
    _same_words(references, predicted)
    np, sk, n = library("numpy"), library("sklearn.metrics"), len(references)
    from hubcli.training import class_counts as counts

    told, said = ([tag for row in side for tag in row] for side in (references, predicted))
    same_length(told, said, of="words")
    with quiet():
        f1 = float(sk.f1_score(told, said, average="macro", zero_division=0.0))
    each = np.stack(
        [
            counts.counted(np.asarray(a, int), np.asarray(b, int), labels)
            for a, b in zip(references, predicted, strict=True)
        ]
    )

    def over(statistic: Callable[[Array], Array]) -> Interval | None:
        return _bootstrap(lambda rows: statistic(counts.summed(each, rows)), n, seed, wide=3 * labels)

    return [
        Figure("accuracy", float(sk.accuracy_score(told, said)), n, over(counts.accuracy)),
        Figure("f1_macro_words", f1, n, over(counts.macro_f1)),
    ]


def modelled(losses: Sequence[float], tokens: Sequence[int], seed: int = 0) -> list[Figure]:
    """Perplexity and loss (nats a token) from what each row lost in all (nats) and how many of its tokens counted.

    A row without a counted token says nothing and is left out.

    Raises:
        UsageError: no rows, not one number of tokens a loss, or no token that counts.
        HubcliError: a loss that is no number. MissingExtraError: scipy is not installed.
    """
    same_length(losses, tokens)
    np = library("numpy")
    nats, count = np.asarray(losses, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
    if not np.isfinite(nats).all():
        wrong = int(np.flatnonzero(~np.isfinite(nats))[0])
        raise HubcliError(f"row {wrong + 1}: expected a finite loss, found {nats[wrong]}")
    if not count.any():
        raise UsageError("nothing to measure: no token of any row counts", id="E_DATA")
    nats, count = nats[count > 0], count[count > 0]
    n = len(nats)
    loss = float(nats.sum() / count.sum())
    interval = _bootstrap(lambda rows: nats[rows].sum(-1) / count[rows].sum(-1), n, seed, wide=2 * n)
    return [
        Figure("perplexity", _perplexity(loss), n, interval and (_perplexity(interval[0]), _perplexity(interval[1]))),
        Figure("loss", loss, n, interval),
    ]


def matched(references: Sequence[str], predicted: Sequence[str]) -> list[Figure]:
    """The share of answers that are the reference, white space aside: ends stripped, runs of it one space. Case counts.

    Raises:
        UsageError: no rows, or not one answer a reference. MissingExtraError: scipy is not installed.
    """
    same_length(references, predicted)
    hits = sum(one.split() == other.split() for one, other in zip(references, predicted, strict=True))
    return [_share("exact_match", hits, len(references))]


def same_length(references: Sequence[Any], predicted: Sequence[Any], *, of: str = "rows", few: bool = False) -> None:
    """Refuse sides that are not as long as each other, and empty ones but where `few` of them are to be expected.

    Raises:
        UsageError: names what there is.
    """
    if len(references) != len(predicted):
        raise UsageError(f"expected as many {of} on both sides, found {len(references)} and {len(predicted)}")
    if not len(references) and not few:
        raise UsageError(f"nothing to measure: no {of}", id="E_DATA")


def _same_words(references: Sequence[Sequence[Any]], predicted: Sequence[Sequence[Any]]) -> None:
    same_length(references, predicted)
    for one, other in zip(references, predicted, strict=True):
        same_length(one, other, of="tags", few=True)


def _share(name: str, hits: int, n: int) -> Figure:
    """A proportion with Wilson's interval."""
    found = library("scipy.stats").binomtest(hits, n).proportion_ci(LEVEL, method="wilson")
    return Figure(name, hits / n, n, (float(found.low), float(found.high)))


def _bootstrap(statistic: Callable[[Array], Array], n: int, seed: int, wide: int) -> Interval | None:
    """The percentile interval of a statistic of rows (places among n; its last axis is drawn). `wide`: numbers a draw."""
    if n < 2 or not _DRAWS.get():
        return None
    np, stats = library("numpy"), library("scipy.stats")
    with quiet():
        found = stats.bootstrap(
            (np.arange(n),),
            lambda rows, axis: statistic(rows),
            n_resamples=RESAMPLES,
            batch=max(1, AT_ONCE // max(n, wide)),
            vectorized=True,
            axis=-1,
            confidence_level=LEVEL,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    low, high = float(found.low), float(found.high)
    return (low, high) if low < high else None


def _counts(told: list[str], said: list[str]) -> tuple[int, int, int, int, int]:
    """Of one sentence: spans right, said and told, tokens right and all."""
    entities = library("seqeval.metrics.sequence_labeling").get_entities
    true, found = set(entities(told)), set(entities(said))
    hits = sum(one == other for one, other in zip(told, said, strict=True))
    return len(true & found), len(found), len(true), hits, len(told)


def _ratio(above: Array, below: Array) -> Array:
    np = library("numpy")
    above, below = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


_SPANS: dict[str, Callable[[Array], Array]] = {
    "f1": lambda c: _ratio(2 * c[..., 0], c[..., 1] + c[..., 2]),
    "precision": lambda c: _ratio(c[..., 0], c[..., 1]),
    "recall": lambda c: _ratio(c[..., 0], c[..., 2]),
    "accuracy": lambda c: _ratio(c[..., 3], c[..., 4]),
}


def _perplexity(loss: float) -> float:
    return math.exp(min(loss, MOST))


@contextmanager
def without_intervals() -> Iterator[None]:
    """Figures inside have no bootstrap's interval: nobody reads those of a training that goes on, and they take longest."""
    before = _DRAWS.set(False)
    try:
        yield
    finally:
        _DRAWS.reset(before)


def check_installed() -> None:
    """Refuse to go on where figures could not be counted in the end.

    Raises:
        MissingExtraError: names what is missing.
    """
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise _missing(f"no {', no '.join(missing)}")


def library(name: str) -> Any:
    """A package of the extra `train`, imported where it serves.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise _missing(str(error)) from error


def _missing(why: str) -> MissingExtraError:
    return MissingExtraError("figures need packages not installed here", cause=why, hint="pip install 'hubcli[train]'")


@contextmanager
def quiet() -> Iterator[None]:
    """What the libraries warn of (one class alone, no span) is answered here, in what is documented to come out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
