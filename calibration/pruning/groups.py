"""Which channels go together: torch-pruning's dependency graph, read into plain facts.

Channels that are added, concatenated or normalised together can only be removed together (Fang et al. 2023, DepGraph,
arXiv 2301.12900). A group is a set of such channels; what a layer costs follows from how many of each group stay.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import UnavailableError, UsageError
from .blocks import blocks_of, in_groups
from .members import Member
from .norms import NormPruner, norms_by_shape
from .raised import named, raised_in, running_layer
from .visits import Visits

INSTEAD = "prune single weights in place of channels: --pattern unstructured --sparsity 0.5"


@dataclass(frozen=True)
class Group:
    """Channels that can only be removed together.

    Attributes:
        root: the layer whose outputs they are counted by.
        channels: how many.
        members: all layers that have them.
        blocks: the block of each channel, where as many have to go of each: a group norm's groups, the heads of an
            attention; empty where there is one block only.
    """

    root: str
    channels: int
    members: tuple[Member, ...]
    blocks: tuple[int, ...] = ()

    def step(self, round_to: int) -> int:
        """Return the number of channels that those that stay are a multiple of."""
        return math.lcm(round_to, len(set(self.blocks)) or 1)

    def lowest(self, scores: Sequence[float], count: int) -> list[int]:
        """Return the channels with the lowest scores, as many of each block."""
        order = np.argsort(scores, kind="stable")
        if not self.blocks:
            return [int(channel) for channel in order[:count]]
        blocks = np.array(self.blocks)
        share = count // len(set(self.blocks))
        return sorted(int(channel) for block in set(self.blocks) for channel in order[blocks[order] == block][:share])


@dataclass(frozen=True)
class Form:
    """A layer but for its channels: what the time of a kernel depends on beside them.

    Attributes:
        op: Conv or Gemm.
        size: height and width of its input; of a Gemm the rows of an image, and 1.
        kernel, stride, padding, dilation: height and width.
        groups: that inputs and outputs fall into; 0 for depthwise, one group a channel.
    """

    op: Literal["Conv", "Gemm"]
    size: tuple[int, ...]
    kernel: tuple[int, ...] = (1, 1)
    stride: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0)
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1


@dataclass(frozen=True)
class Cost:
    """A layer's multiply-accumulates for one image: `each` times inputs times outputs over groups.

    Attributes:
        each: places of its output (of its input, if it is transposed) times the size of its kernel.
        inputs, outputs: its channels.
        depthwise: whether each output sees one input alone.
        form: the rest of its geometry.
        calls: how often it runs for an image.
    """

    each: int
    inputs: int
    outputs: int
    depthwise: bool
    form: Form
    calls: int = 1

    def macs(self, inputs: float, outputs: float) -> float:
        """At other widths."""
        return self.each * outputs if self.depthwise else self.each * inputs * outputs


Price = Callable[[Cost, float, float], float]  # of a layer with so many inputs and outputs


def macs_of(cost: Cost, inputs: float, outputs: float) -> float:
    """The price that counts multiply-accumulates."""
    return cost.macs(inputs, outputs)


@dataclass(frozen=True)
class Structure:
    """A module's groups and what its layers cost.

    Attributes:
        groups: whose channels can go.
        stays: of the other groups, by their root, why all their channels stay.
        costs: of each convolution and linear layer.
        module: that was traced.
        graph: of torch-pruning.
    """

    groups: tuple[Group, ...]
    stays: Mapping[str, str]
    costs: Mapping[str, Cost]
    module: nn.Module = field(repr=False, compare=False)
    graph: Any = field(repr=False, compare=False)

    def remove(self, group: Group, channels: Sequence[int]) -> None:
        """Take channels of a group out of all layers that have them, in place."""
        part = self.module.get_submodule(group.root)
        prune = self.graph.get_pruner_of_module(part).prune_out_channels
        self.graph.get_pruning_group(part, prune, list(channels)).prune()

    def macs(self, kept: Mapping[str, int]) -> float:
        """Of one image, when so many channels of each group (by its root) stay."""
        return self.total(kept, macs_of)

    def total(self, kept: Mapping[str, int], price: Price) -> float:
        """The prices of all layers together, when so many channels of each group (by its root) stay."""
        inputs = {name: float(cost.inputs) for name, cost in self.costs.items()}
        outputs = {name: float(cost.outputs) for name, cost in self.costs.items()}
        for group in self.groups:
            lost = 1 - kept.get(group.root, group.channels) / group.channels
            for member in group.members:
                sides = outputs if member.output else inputs
                if member.layer in sides:
                    sides[member.layer] -= lost * len(member.places)
        return sum(price(cost, inputs[name], outputs[name]) for name, cost in self.costs.items())


def trace_groups(module: nn.Module, shape: tuple[int, int, int], ignored: Sequence[nn.Module] = ()) -> Structure:
    """Trace a module and read its groups, as torch-pruning couples them (`removable.py` tries whether it is right).

    Args:
        module: in evaluation mode, on the CPU.
        shape: channels, height and width of an image.
        ignored: layers whose outputs stay.

    Raises:
        UnavailableError: torch-pruning is missing.
        UsageError: the module cannot be traced.
    """
    try:
        import torch_pruning as tp
    except ImportError as error:
        raise UnavailableError(
            "channels are coupled by torch-pruning, which is not here", fix='pip install "zoo-export[prune]"'
        ) from error
    example = torch.zeros(2, *shape)
    order = {name: place for place, (name, _) in enumerate(module.named_modules())}
    # torch-pruning follows gradients, and would not see a layer whose parameters a factory has frozen
    frozen = [one for one in module.parameters() if not one.requires_grad and one.is_floating_point()]
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            for parameter in frozen:
                parameter.requires_grad_(True)
            graph = tp.DependencyGraph().build_dependency(
                module, example, forward_fn=lambda called, images: called(images),
                customized_pruners=cast("Any", {kind: NormPruner() for kind in norms_by_shape(module)}),
            )  # fmt: skip
            every = graph.get_all_groups(list(ignored), [nn.modules.conv._ConvNd, nn.Linear])
            found = list(Visits(graph).of_each(every))
    except Exception as error:  # whatever tracing a foreign module raises
        costs_of(module, example)  # raises where its forward does not run at all
        why = raised_in(error, module)
        if running_layer(error, module) is None:  # in torch-pruning's own code, after the forward
            why = f"torch-pruning cannot follow an operation in it, such as a channel shuffle or a roll ({why})"
        raise UsageError(f"{type(module).__name__} cannot be traced for pruning: {why}", fix=INSTEAD) from error
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
    costs = costs_of(module, example)  # without gradients, so that weights which a forward computes can be copied again
    groups: list[Group] = []
    stays: dict[str, str] = {}
    bound = in_groups(module)
    for read in (_read(group, module, graph) for group in found):
        if read is None:
            continue
        held = next((member.layer for member in read.members if member.layer in bound), "")
        try:
            group = replace(read, blocks=blocks_of(read.members, read.channels, module))
        except UsageError as error:
            stays[read.root] = error.what
            continue
        if held:
            stays[read.root] = f"{'it' if held == read.root else named(module, held)} convolves in groups"
        else:
            groups.append(group)
    return Structure(tuple(sorted(groups, key=lambda group: order[group.root])), stays, costs, module, graph)


def costs_of(module: nn.Module, example: Tensor) -> dict[str, Cost]:
    """What each convolution and linear layer costs, by one forward pass of two images."""
    found: dict[str, Cost] = {}
    handles = []

    def watch(name: str, part: nn.Module) -> None:
        def note(_module: nn.Module, inputs: Any, output: Tensor) -> None:
            cost = (
                _conv(part, inputs[0], output) if isinstance(part, nn.modules.conv._ConvNd) else _linear(part, output)
            )
            before = found.get(name)
            if before is not None:
                cost = replace(cost, each=before.each + cost.each, calls=before.calls + 1)
            found[name] = cost

        handles.append(part.register_forward_hook(note))

    for name, part in module.named_modules():
        if isinstance(part, nn.modules.conv._ConvNd | nn.Linear):
            watch(name, part)
    try:
        with torch.no_grad():
            module(example)
    except Exception as error:  # whatever a forward raises
        raise UsageError(
            f"the model cannot take images of {tuple(example.shape[1:])}: {raised_in(error, module)}",
            fix="give --input",
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return found


def _conv(part: Any, taken: Tensor, given: Tensor) -> Cost:
    # a transposed convolution multiplies each place of its input by the kernel, the others each place of the output
    places, kernel = (taken if part.transposed else given)[0, 0].numel(), part.weight[0, 0].numel()
    depthwise = part.groups == part.in_channels == part.out_channels and part.groups > 1
    padding = part.padding if isinstance(part.padding, tuple) else tuple(size // 2 for size in part.kernel_size)
    form = Form(
        "Conv", tuple(taken.shape[2:]), part.kernel_size, part.stride, padding, part.dilation,
        0 if depthwise else part.groups,
    )  # fmt: skip
    each = places * kernel if depthwise else places * kernel // part.groups
    return Cost(each, part.in_channels, part.out_channels, depthwise, form)


def _linear(part: Any, given: Tensor) -> Cost:
    rows = given[0].numel() // given.shape[-1]
    return Cost(rows, part.in_features, part.out_features, False, Form("Gemm", (rows, 1)))


def _read(group: Any, module: nn.Module, graph: Any) -> Group | None:
    """Return a group of torch-pruning as ours; None for one without a layer of a name."""
    layers = {id(part): (name, "") for name, part in module.named_modules()}
    own = {id(tensor): (path.rpartition(".")[0], path.rpartition(".")[2]) for path, tensor in module.named_parameters()}
    members: list[Member] = []
    for item in group:
        part, places = item.dep.target.module, [int(place) for place in item.idxs]
        of = [int(place) for place in getattr(item, "root_idxs", None) or range(len(places))]
        named_so = (own if isinstance(part, nn.Parameter) else layers).get(id(part))
        if named_so is not None:
            layer, parameter = named_so
            output = bool(graph.is_out_channel_pruning_fn(item.dep.handler))
            axis = int(graph.module2node[part].pruning_dim) if parameter else 0
            members.append(Member(layer, output, tuple(places), tuple(of), parameter, axis))
    if not members:
        return None
    return Group(members[0].layer, len(members[0].places), tuple(members))
