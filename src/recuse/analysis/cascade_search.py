"""The best cascade from a pool of judged models, under the sound accounting.

A cascade of k stages in front of a core is a sequence of models, so that a pool of m models
has m^k of them. The search goes through them best bound first and leaves out every prefix
that cannot beat the best cascade known. What makes the bounds: with every further stage the
samples still open (no stage wrong so far, none sure to answer) only become fewer, and a
later stage can win only samples that the core would lose and that it surely answers rightly.
Where the budget ends a search early, the result says how much better a cascade could be.
"""

import heapq
from dataclasses import dataclass, field

import numpy as np

from recuse.analysis.bits import Numbers, Words, count
from recuse.analysis.intervals import spare
from recuse.analysis.searchable import Searchable
from recuse.analysis.verdicts import Mask, Values

DEFAULT_BUDGET = 20_000
BEAM, NARROWEST = 50, 4
# In a larger pool to extend a prefix costs more; there as many fewer are extended.
STAGES = 1_000


@dataclass(frozen=True)
class Found:
    """The best cascade of a search.

    Attributes:
        stages: Indices into the pool, in the order in which they answer; empty for the core.
        natural: Samples that the deployed cascade answers rightly.
        sound: Samples robust by the sound accounting.
        bound: No cascade of the pool has more than this many robust samples.
        expanded: Prefixes whose extensions were counted.
    """

    stages: tuple[int, ...]
    natural: int
    sound: int
    bound: int
    expanded: int

    @property
    def optimal(self) -> bool:
        """Whether nothing better exists, rather than the budget ended the search."""
        return self.bound <= self.sound


@dataclass(frozen=True)
class _Prefix:
    """A sequence of stages and what it leaves to later ones."""

    stages: tuple[int, ...]
    pending: Words
    left: Words
    won: int
    right: int
    apart: int


@dataclass(frozen=True)
class _Extensions:
    """Counts of a prefix extended by each stage of the pool, then closed by the core.

    ``spare`` is what natural must have above the floor, and ``apart`` where a stage answers and it
    or the core is wrong, not both: no further stage makes either less. ``won`` and ``right`` are
    what further stages start from; 0 where none may follow.
    """

    natural: Numbers
    sound: Numbers
    won: Numbers
    right: Numbers
    apart: Numbers
    best_natural: Numbers
    best_sound: Numbers
    spare: Values

    def keep(self, natural: Numbers, floor: int) -> Mask:
        """Which of these numbers of right answers are above the floor by what has to be spare."""
        return np.asarray(natural - self.spare >= floor)


@dataclass(frozen=True)
class _Family:
    """Extensions of one prefix that still wait, best bound first."""

    prefix: _Prefix
    ext: _Extensions
    order: Numbers

    def first(self, pool: Searchable) -> _Prefix:
        return _child(self.prefix, int(self.order[0]), self.ext, pool)

    def later(self) -> "_Family":
        return _Family(self.prefix, self.ext, self.order[1:])


@dataclass(frozen=True)
class _Masks:
    """Per stage of the pool, what the counts of :func:`_extend` intersect with."""

    holds: Words
    closes: Words
    answers: Words
    gains: Words
    rescuable: Words
    improves: Words
    improvable: Words
    apart: Words

    @classmethod
    def of(cls, pool: Searchable) -> "_Masks":
        gains = pool.wins & ~pool.core_robust
        answers = pool.selects & pool.accurate
        improves = answers & ~pool.core_right
        return cls(
            holds=pool.wins | (pool.open & pool.core_robust),
            closes=answers | (~pool.selects & pool.core_right),
            answers=answers,
            gains=gains,
            rescuable=pool.open & np.bitwise_or.reduce(gains, axis=0),
            improves=improves,
            improvable=~pool.selects & np.bitwise_or.reduce(improves, axis=0),
            apart=pool.selects & (pool.accurate ^ pool.core_right),
        )


def best_cascade(
    pool: Searchable,
    *,
    floor: int,
    max_stages: int,
    budget: int = DEFAULT_BUDGET,
    deviations: float = 0.0,
) -> Found:
    """The cascade of at most ``max_stages`` stages with most soundly robust samples.

    Among equals the one with more natural accuracy, then the shorter one, that was met first.

    Args:
        pool: Models and core on the samples that choose.
        floor: Least number of samples that the deployed cascade must answer rightly.
        max_stages: Stages in front of the core, at least 1.
        budget: Prefixes to expand, in a pool of at most a thousand stages, before the search ends
            with what it has; the result then says how much better another cascade could be.
        deviations: By how many standard deviations (:func:`spare`) a cascade must be above
            ``floor``, so that it is on other samples too.

    Returns:
        The best cascade; the core alone where no stage keeps to ``floor``.

    Raises:
        ValueError: ``max_stages`` below 1.
    """
    if max_stages < 1:
        raise ValueError(f"a cascade needs at least 1 stage, not {max_stages}")
    return _Search(pool, _Masks.of(pool), floor, max_stages, deviations).run(budget)


@dataclass
class _Search:
    """The state of one search: the best cascade so far and the prefixes still to extend.

    Attributes:
        best: (sound, natural, -length, stages) of the best cascade met.
        queue: Best bound first, one entry a family of extensions: of each prefix only the most
            promising extension waits, and brings in the next when it is taken.
    """

    pool: Searchable
    masks: _Masks
    floor: int
    max_stages: int
    deviations: float
    best: tuple[int, int, int, tuple[int, ...]] = field(init=False)
    queue: list[tuple[int, int, _Family]] = field(default_factory=list)
    expanded: int = 0

    def run(self, budget: int) -> Found:
        everything = np.full_like(self.pool.core_right, ~np.uint64(0))
        core_sound, core_natural = count(self.pool.core_robust), count(self.pool.core_right)
        self.best = (int(core_sound), int(core_natural), 0, ())
        share = min(1.0, STAGES / len(self.pool.wins))
        root = _Prefix((), everything, everything, 0, 0, 0)
        self._beam(root, max(NARROWEST, int(BEAM * share)))
        self._branch_and_bound(root, int(budget * share))
        sound, natural, _, stages = self.best
        bound = max(sound, -self.queue[0][0] if self.queue else 0)
        return Found(stages, natural, sound, bound, self.expanded)

    def _beam(self, root: _Prefix, width: int) -> None:
        """A good cascade early: few prefixes a depth, so that the bounds cut much later on."""
        prefixes = [root]
        for depth in range(1, self.max_stages + 1):
            # Many are both within the loss and likely to get there.
            distinct = {prefix.stages: prefix for prefix in prefixes}
            known = {stages: self._count(prefix) for stages, prefix in distinct.items()}
            counted = [(prefix, known[prefix.stages]) for prefix in prefixes]
            if depth == self.max_stages:
                return
            candidates = []
            for prefix, ext in counted:
                open_ = np.flatnonzero(ext.keep(ext.best_natural, self.floor))
                kept = np.flatnonzero(ext.keep(ext.natural, self.floor))
                candidates += [(True, int(ext.sound[j]), prefix, int(j), ext) for j in kept]
                candidates += [(False, int(ext.sound[j]), prefix, int(j), ext) for j in open_]
            prefixes = [
                _child(prefix, j, ext, self.pool)
                for within in (True, False)
                for _, _, prefix, j, ext in heapq.nlargest(
                    width, (c for c in candidates if c[0] is within), key=lambda c: c[1]
                )
            ]

    def _branch_and_bound(self, root: _Prefix, budget: int) -> None:
        self.expanded = 0
        self._enqueue(root)
        while self.queue and -self.queue[0][0] > self.best[0] and self.expanded < budget:
            _, ticket, family = heapq.heappop(self.queue)
            self._wait(family.later(), ticket)
            self._enqueue(family.first(self.pool))

    def _enqueue(self, prefix: _Prefix) -> None:
        """Count all extensions of a prefix and queue those that may lead to something better."""
        ext = self._count(prefix)
        if len(prefix.stages) + 1 == self.max_stages:
            return
        near = ext.keep(ext.best_natural, self.floor)
        useful = np.flatnonzero(near & (ext.best_sound > self.best[0]))
        order = useful[np.argsort(-ext.best_sound[useful], kind="stable")]
        self._wait(_Family(prefix, ext, order), self.expanded)

    def _wait(self, family: _Family, ticket: int) -> None:
        if family.order.size:
            bound = int(family.ext.best_sound[family.order[0]])
            heapq.heappush(self.queue, (-bound, ticket, family))

    def _count(self, prefix: _Prefix) -> _Extensions:
        """Extend a prefix by every stage, and keep the best cascade among the results."""
        self.expanded += 1
        more = self.max_stages - len(prefix.stages) - 1
        ext = _extend(prefix, self.pool, self.masks, more, self.deviations)
        length = -len(prefix.stages) - 1
        near = np.flatnonzero(ext.keep(ext.natural, self.floor) & (ext.sound >= self.best[0]))
        if near.size:
            most = near[ext.sound[near] == ext.sound[near].max()]
            j = int(most[np.argmax(ext.natural[most])])
            found = (int(ext.sound[j]), int(ext.natural[j]), length, (*prefix.stages, j))
            if found[:3] > self.best[:3]:
                self.best = found
        return ext


def _child(prefix: _Prefix, stage: int, ext: _Extensions, pool: Searchable) -> _Prefix:
    return _Prefix(
        stages=(*prefix.stages, stage),
        pending=prefix.pending & pool.open[stage],
        left=prefix.left & ~pool.selects[stage],
        won=int(ext.won[stage]),
        right=int(ext.right[stage]),
        apart=int(ext.apart[stage]),
    )


def _extend(
    prefix: _Prefix, pool: Searchable, masks: _Masks, more: int, deviations: float
) -> _Extensions:
    """Counts and, where ``more`` stages may follow, upper bounds on what they can reach."""
    sound = prefix.won + count(prefix.pending & masks.holds)
    natural = prefix.right + count(prefix.left & masks.closes)
    won = right = apart = np.zeros_like(sound)
    if deviations:
        apart = prefix.apart + count(prefix.left & masks.apart)
    best_sound, best_natural = sound, natural
    if more:
        won = prefix.won + count(prefix.pending & pool.wins)
        right = prefix.right + count(prefix.left & masks.answers)
        gains = _top(count(prefix.pending & masks.gains), more)
        improvements = _top(count(prefix.left & masks.improves), more)
        best_sound = sound + np.minimum(gains, count(prefix.pending & masks.rescuable))
        best_natural = natural + np.minimum(improvements, count(prefix.left & masks.improvable))
    least = spare(apart, deviations)
    return _Extensions(natural, sound, won, right, apart, best_natural, best_sound, least)


def _top(numbers: Numbers, most: int) -> int:
    """Sum of the ``most`` largest numbers: what that many stages can add at the very best."""
    return int(np.sort(numbers)[-most:].sum())
