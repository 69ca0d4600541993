"""Channels: what goes together, what matters least, how many stay, and that the rest is rebuilt exactly."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from zoo.calibration.pruning.budget import Budget, choose_widths, rounded
from zoo.calibration.pruning.criteria import CRITERIA, gather_gradients, score
from zoo.calibration.pruning.groups import Group
from zoo.calibration.pruning.members import Member
from zoo.calibration.pruning.recovery import reestimate_norms
from zoo.calibration.pruning.removable import structure_of
from zoo.calibration.pruning.structured import prune_channels
from zoo.errors import IntegrityError, UsageError
from zoo.models.registry import create_model
from zoo.models.widths import resize, widths_of

SMALL = {"num_classes": 5, "stem": "small", "width": 0.5}


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    arguments = {key: value for key, value in SMALL.items() if key != "width" or not name.startswith("efficientnet")}
    return create_model(name, **arguments).eval()


def true_macs(module: nn.Module, shape: tuple[int, int, int]) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(torch.zeros(1, *shape))
    return counter.get_total_flops() // 2


FAMILIES = ("alexnet", "vgg11_bn", "googlenet", "resnet18", "resnet50", "mobilenet_v1", "mobilenet_v2",
            "mobilenet_v3_small", "efficientnet_b0")  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_narrowed_to_its_budget_and_rebuilt(name: str) -> None:
    shape, module = (3, 32, 32), make(name)
    whole = true_macs(module, shape)
    pruned = prune_channels(module, shape, Budget(0.6))
    assert pruned.macs_before == whole, "our count is torch's"
    assert pruned.macs == true_macs(module, shape)
    assert 0.5 < pruned.macs / whole <= 0.6
    for group in pruned.groups:
        assert group.kept == group.channels or group.kept % 8 == 0
    images = torch.randn(2, *shape)
    again = make(name)
    resize(again, pruned.widths)
    assert widths_of(again) == widths_of(module)
    again.load_state_dict(module.state_dict())
    with torch.no_grad():
        assert torch.equal(again(images), module(images))
        assert module(images).shape == (2, 5)


@given(st.floats(0.2, 0.95), st.sampled_from([1, 8, 16]), st.sampled_from(["global", "uniform"]), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_a_budget_is_kept_and_used(share: float, step: int, spread: str, seed: int) -> None:
    """Of a chain of layers, where each group is the outputs of one and the inputs of the next."""
    random = np.random.default_rng(seed)
    channels = {f"layer{index}": int(random.integers(16, 100)) for index in range(5)}
    groups = [Group(name, count, (Member(name, True, tuple(range(count)), tuple(range(count))),))
              for name, count in channels.items()]  # fmt: skip
    scores = {name: random.random(count) + 0.01 for name, count in channels.items()}

    def cost(kept) -> float:
        widths = [3, *(kept.get(name, count) for name, count in channels.items()), 10]
        return float(sum(one * other for one, other in itertools.pairwise(widths)))

    budget = Budget(share, spread, step)
    try:
        kept = choose_widths(groups, scores, cost, budget)
    except UsageError as error:
        assert "cannot be reached" in str(error)
        least = {group.root: rounded(0, group, budget) for group in groups}
        assert cost(least) > share * cost(channels)
        return
    assert cost(kept) <= share * cost(channels)
    for name, count in kept.items():
        assert count == channels[name] or (count % step == 0 and count >= step)
        more = {**kept, name: min(channels[name], count + step)}
        assert count == channels[name] or cost(more) > share * cost(channels), "nothing more fits"


def test_the_least_important_channels_go() -> None:
    module = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.Flatten(),
                           nn.Linear(16 * 16, 4))  # fmt: skip
    with torch.no_grad():
        module[0].weight[::2] *= 1e-3
        module[2].weight[:, ::2] *= 1e-3
    kept = module[0].weight[1::2].clone()
    pruned = prune_channels(module.eval(), (3, 4, 4), Budget(0.6), keep=["2"])
    assert torch.equal(module[0].weight, kept)
    assert [group.kept for group in pruned.groups] == [8]


def group_of(module: nn.Module) -> Group:
    return structure_of(module, (3, 8, 8), [module[3]]).groups[0]


def small_net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()  # fmt: skip


def test_criteria_against_their_formulas() -> None:
    module = small_net()
    with torch.no_grad():
        module[1].weight.copy_(torch.rand(6) + 0.1)
    images, labels = torch.randn(8, 3, 8, 8), torch.arange(8) % 4
    gather_gradients(module, [(images[:5], labels[:5]), (images[5:], labels[5:])])
    group = group_of(module)
    out, into = module[0].weight.detach().flatten(1), module[3].weight.detach().transpose(0, 1).flatten(1)
    by_out, by_in = module[0].weight.grad.flatten(1), module[3].weight.grad.transpose(0, 1).flatten(1)
    distances = torch.stack([(out - row).norm(dim=1).sum() for row in out])
    expected = {
        "magnitude": [out.norm(dim=1), into.norm(dim=1)],
        "bn-scale": [module[1].weight.detach().abs()],
        "taylor": [(out * by_out).sum(1) ** 2, (into * by_in).sum(1) ** 2],
        "fpgm": [distances],
    }
    for criterion, parts in expected.items():
        wanted = torch.stack([part / part.mean() for part in parts]).mean(0)
        assert score(group, module, criterion) == pytest.approx(wanted.numpy(), rel=1e-4), criterion
    assert score(group, module, "random").mean() == pytest.approx(1)
    assert set(CRITERIA) == {*expected, "random"}


def test_taylor_is_what_the_loss_changes_by() -> None:
    """To first order: removing a channel whose weights are small."""
    module = small_net()
    with torch.no_grad():
        module[0].weight *= 0.01
        module[1].running_var.fill_(1.0)
        module[1].weight.fill_(1.0)
    images, labels = torch.randn(8, 3, 8, 8), torch.arange(8) % 4
    gather_gradients(module, [(images, labels)])
    gradient, weight = module[0].weight.grad.clone(), module[0].weight.detach().clone()
    predicted = -(gradient * weight).flatten(1).sum(1)
    with torch.no_grad():
        base = nn.functional.cross_entropy(module(images), labels)
        for channel in range(6):
            changed = copy.deepcopy(module)
            changed[0].weight[channel] = 0
            found = nn.functional.cross_entropy(changed(images), labels) - base
            assert float(found) == pytest.approx(float(predicted[channel]), rel=0.2, abs=1e-5)


def test_norms_are_those_of_what_they_see_now() -> None:
    module = small_net()
    images = torch.randn(64, 3, 8, 8) * 3 + 1
    assert reestimate_norms(module, images.split(16)) == 1
    seen = module[0](images).detach()
    torch.testing.assert_close(module[1].running_mean, seen.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    assert not module[1].training
    assert module[1].momentum == 0.1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: Budget(0.0), "above 0 and below 1"),
        (lambda: Budget(1.0), "above 0 and below 1"),
        (lambda: Budget(0.5, round_to=0), "rounded to 1 to 256"),
        (lambda: prune_channels(make("resnet18"), (3, 32, 32), Budget(0.001)), "cannot be reached"),
        (lambda: prune_channels(make("resnet18"), (3, 32, 32), Budget(0.5), keep=["layer9"]), 'did you mean "layer'),
        (lambda: prune_channels(make("resnet18"), (3, 32, 32), Budget(0.5), "taylor"), "labelled images"),
        (lambda: prune_channels(make("alexnet"), (3, 32, 32), Budget(0.5), "bn-scale"), "bn-scale judges by"),
        (lambda: prune_channels(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), (3, 2, 2), Budget(0.5)), "no channels"),
        (lambda: prune_channels(make("resnet18"), (1, 32, 32), Budget(0.5)), "cannot take images"),
    ],
)
def test_what_cannot_be_is_said(change, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        change()


@pytest.mark.parametrize(
    "widths", [{"layer9.conv": (8, 8, 1)}, {"conv1": (3, 0, 1)}, {"conv1": (3, 8, 2)}, {"relu": (3, 3, 1)},
               {"conv1": (3, 1 << 40, 1)}],
)  # fmt: skip
def test_widths_that_do_not_fit_are_an_integrity_error(widths) -> None:
    with pytest.raises(IntegrityError, match="prune it again"):
        resize(make("resnet18"), widths)


class Counted(nn.Module):
    """A forward that counts on the number of its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.last = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 16, 1), nn.Linear(16, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        made = self.one(images)
        many, _, height, width = made.shape
        mixed = made.view(many, 4, 8, height, width).transpose(1, 2).reshape(many, 32, height, width)
        return self.last(self.two(mixed).mean((2, 3)))


@pytest.mark.parametrize(
    "parts",
    [(nn.Conv2d(3, 32, 3), nn.Conv2d(32, 24, 3), nn.Conv2d(24, 36, 3, groups=3), nn.Conv2d(36, 20, 1),
      nn.Conv2d(20, 16, 1)),
     (nn.ConvTranspose2d(3, 32, 3), nn.Conv2d(32, 32, 3)), (nn.Conv2d(3, 24, 3), nn.ConvTranspose2d(24, 16, 3))],
)  # fmt: skip
@pytest.mark.parametrize("criterion", ["magnitude", "fpgm"])
def test_grouped_and_transposed_layers_are_narrowed(parts, criterion) -> None:
    layers = copy.deepcopy(parts)
    width = layers[-1].out_channels
    module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5)).eval()
    pruned = prune_channels(module, (3, 16, 16), Budget(0.7, round_to=4), criterion)
    assert pruned.macs <= 0.7 * pruned.macs_before
    assert module(torch.randn(2, 3, 16, 16)).shape == (2, 5)
    for part, before in zip(module, parts, strict=False):
        if isinstance(part, nn.Conv2d) and part.groups > 1:
            assert (part.in_channels, part.out_channels) == (before.in_channels, before.out_channels)


def test_what_cannot_be_narrowed_is_said_with_what_to_do() -> None:
    words = r"0.72 is left \(one \(Conv2d\): its channels are not interchangeable"
    with pytest.raises(UsageError, match=words):
        prune_channels(Counted().eval(), (3, 8, 8), Budget(0.5, round_to=4))
    normed = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 32, 3)), nn.Conv2d(32, 16, 3),
                           nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)).eval()  # fmt: skip
    pruned = prune_channels(normed, (3, 8, 8), Budget(0.5, round_to=4))
    assert pruned.stays == {"0": "0 (ParametrizedConv2d) computes its weight from others (parametrization)"}
    with pytest.raises(UsageError, match="1 to 100 steps, got 3000000000"):
        prune_channels(make("resnet18"), (3, 32, 32), Budget(0.5), steps=3_000_000_000)


def test_a_transposed_convolution_costs_what_torch_counts() -> None:
    module = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ConvTranspose2d(16, 16, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                           nn.Linear(16, 5)).eval()  # fmt: skip
    assert structure_of(module, (3, 8, 8), [module[4]]).macs({}) == true_macs(module, (3, 8, 8))
