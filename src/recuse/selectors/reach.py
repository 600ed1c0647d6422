"""The balls that matter to a selector which looks around its input.

Two radii meet in it and must not be mixed up. The selector looks a radius ``rho`` around the
input it is given; the attacker has moved that input by up to ``eps``. Whether the selector
*surely* selects is therefore a question about ``rho + eps``: the doubled radius at the default
``rho = eps``. A selector here is built from the attacker's budget, so the three radii are
always at hand (:class:`Reach`), and a radius below the budget is refused: a selector with one is of
another type (:class:`recuse.selectors.NarrowIndicator`), because it promises less.
"""

from dataclasses import dataclass

from recuse.errors import ConfigError
from recuse.threat import Threat


@dataclass(frozen=True)
class Reach:
    """The balls that matter to a selector which looks around its input.

    Attributes:
        budget: The attacker's ball, radius eps.
        radius: The selector's own radius rho; eps if not given.

    Raises:
        ConfigError: rho below eps (a selected answer could change), or rho + eps beyond the
            largest radius of the norm.
    """

    budget: Threat
    radius: float | None = None

    def __post_init__(self) -> None:
        if self.own.eps < self.budget.eps:
            raise ConfigError(
                f"selector radius {self.own.radius} is smaller than the attacker's budget "
                f"{self.budget}: an attacker could change a selected answer; use a radius of at "
                f"least {self.budget.radius}"
            )
        if self.budget.norm == "linf" and self.own.eps + self.budget.eps > 1:
            raise ConfigError(
                f"selector radius {self.own.radius} and budget {self.budget} add up to more than "
                "1, the whole range of a pixel; use a smaller budget"
            )

    @property
    def own(self) -> Threat:
        """Radius rho: what the selector searches around the input it is given."""
        return self.budget if self.radius is None else self.budget.with_eps(self.radius)

    @property
    def sure(self) -> Threat:
        """Radius rho + eps: robust on it = selected wherever the attacker moves the input."""
        return self.budget.with_eps(self.own.eps + self.budget.eps)

    @property
    def ascending(self) -> tuple[Threat, ...]:
        """All balls an evaluation needs, each once, ascending: eps, rho, rho + eps."""
        found = {t.eps: t for t in (self.budget, self.own, self.sure)}
        return tuple(found[eps] for eps in sorted(found))


__all__ = ["Reach"]
