"""How a model is pruned: what a person may ask for, and what contradicts itself."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from ...calibration.pruning.budget import Budget, Spread
from ...calibration.pruning.criteria import CRITERIA, Criterion
from ...calibration.pruning.sparsity import PATTERNS, Pattern
from ...config import near
from ...errors import UsageError

BLOCK = 8  # of channels, below which layers fall out of the runtimes' blocked layouts


def usual_block(cpu: Collection[str]) -> int:
    """The number of channels that a CPU's kernels compute together: as many floats as a register has.

    ONNX Runtime's blocked layout (MLAS, NCHWc) and oneDNN's have 16 with AVX-512, else 8.

    Args:
        cpu: the flags of /proc/cpuinfo.
    """
    return 16 if "avx512f" in cpu else BLOCK


def known_criterion(name: str) -> Criterion:
    """The criterion of that name. Raises UsageError."""
    if name not in CRITERIA:
        raise UsageError(f'no criterion "{name}"{near(name, CRITERIA)}', fix=f"one of {', '.join(CRITERIA)}")
    return cast("Criterion", name)


@dataclass(frozen=True)
class PruneOptions:
    """How a model is pruned.

    Attributes:
        macs: share of the MACs that is to be left.
        latency: share of the measured latency that is to be left, in its place.
        target: whose runtime on this machine the latency is of.
        criterion: which channels go; see `calibration/pruning/criteria.py`.
        spread: global ranks all channels together, uniform takes the same share everywhere, sensitivity takes of each
            stage what costs the same accuracy.
        round_to: channels that stay are a multiple of it: runtimes' kernels come in blocks of 8, 16 or 32.
        keep: modules whose outputs stay as they are.
        stages: shares of their channels that single stages keep.
        steps: parts in which the way is gone, with the norms' statistics taken anew between.
        pattern: zeros among the weights that stay: 2:4 or unstructured.
        sparsity: of unstructured: share of the weights that become zero.
        max_drop: points of top-1; the recovery ends with the first epoch after which no more are lost, with 95 %
            certainty.
        timed: whether the latency is measured, before and after.
        timed_at: channels, height and width of the images it is measured with; None for the model's own.
        beside: whether the same architecture at a smaller width is trained for as many steps, to compare with.
    """

    macs: float | None = None
    latency: float | None = None
    target: str = "onnx"
    criterion: Criterion = "magnitude"
    spread: Spread = "global"
    round_to: int = BLOCK
    keep: tuple[str, ...] = ()
    stages: dict[str, float] = field(default_factory=dict)
    steps: int = 1
    pattern: Pattern | None = None
    sparsity: float | None = None
    max_drop: float | None = None
    timed: bool = True
    timed_at: tuple[int, int, int] | None = None
    beside: bool = True

    def __post_init__(self) -> None:
        known_criterion(self.criterion)
        if self.pattern is not None and self.pattern not in PATTERNS:
            raise UsageError(f'no pattern "{self.pattern}"', fix=f"one of {', '.join(PATTERNS)}")
        if not self.structured and self.pattern is None:
            raise UsageError("nothing says what is to go", fix="give --macs, --latency, --stage or --pattern")
        self._refuse_contradictions()
        if self.structured:
            self.budget  # noqa: B018 - refuses what cannot be

    @property
    def structured(self) -> bool:
        """Whether channels go."""
        return self.macs is not None or self.latency is not None or bool(self.stages)

    @property
    def budget(self) -> Budget:
        """What is asked for of channels."""
        share = self.macs if self.latency is None else self.latency
        return Budget(share, self.spread, self.round_to, stages=self.stages)

    def as_mapping(self) -> dict[str, Any]:
        """For run.json."""
        return asdict(self)

    def _refuse_contradictions(self) -> None:
        wrong = {
            "--macs and --latency ask for two things: give one of them": self.macs is not None
            and self.latency is not None,
            "--latency is measured: leave --no-timed out": self.latency is not None and not self.timed,
            f"--latency needs --round-to a multiple of {BLOCK}: other numbers of channels fall out of the runtimes' "
            "blocked layouts": self.latency is not None and self.round_to % BLOCK != 0,
            "--timed-at and --no-timed contradict each other": self.timed_at is not None and not self.timed,
            "--sparsity is of --pattern unstructured": self.sparsity is not None and self.pattern != "unstructured",
            "--pattern unstructured needs --sparsity, such as 0.8": self.pattern == "unstructured"
            and self.sparsity is None,
            f"--sparsity must be above 0 and below 1, got {self.sparsity}": self.sparsity is not None
            and not 0 < self.sparsity < 1,
            f"--max-drop is in points, 0 to 100, got {self.max_drop}": self.max_drop is not None
            and not 0 < self.max_drop <= 100,
            f"--spread {self.spread} needs --macs or --latency": self.spread == "sensitivity"
            and self.macs is None
            and self.latency is None,
        }
        for what, found in wrong.items():
            if found:
                raise UsageError(what, fix="see zoo prune --help")
