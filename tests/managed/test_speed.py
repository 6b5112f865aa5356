"""Each lever computes what the ordinary way computes: the same loss, the same gradients, row by row."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from test_families import FAMILIES, tiny
from torch.nn.functional import scaled_dot_product_attention

from trainer.data.batches import Batch, collate
from trainer.data.masks import IGNORED, Example
from trainer.models.adapting import with_lora
from trainer.spec import Lora, Training
from trainer.speed import SHORT_ROW, rounded
from trainer.speed.choice import choose_way, fuse_all
from trainer.speed.flat import Flat, flatten
from trainer.speed.fused_lora import fuse
from trainer.speed.gates import fuse_gates
from trainer.speed.head import HeadLoss
from trainer.speed.like_lengths import cuts
from trainer.speed.padded import Padded
from trainer.speed.short_rows import Groups, ShortRows

# Linear attention, convolutions and state spaces; attention with sinks or soft caps; layers that keep to themselves what
# they are handed, or attend by code of their own.
PADDED = {
    "qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "granitemoehybrid", "olmo_hybrid", "lfm2", "lfm2_moe",
    "nemotron_h", "minimax", "mamba", "mamba2", "falcon_mamba", "falcon_h1", "bamba", "jamba", "zamba2",
    "recurrent_gemma", "gemma2", "gpt_oss", "gemma3n_text", "stablelm", "nemotron", "gptj", "bloom",
}  # fmt: skip


def row(length: int, asked: int, tail: int = 0, seed: int = 0) -> Example:
    """A row whose last tokens are learned, but for its tail."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 256, (length,), generator=generator).tolist()
    return Example(ids, [IGNORED] * asked + ids[asked : length - tail] + [IGNORED] * tail)


AUTO = Training(end_to_end="auto")
ROWS = [row(23, 9, 3, 1), row(5, 2, 0, 2), row(40, 1, 0, 3), row(12, 11, 0, 4)]


def adapted(family: str, **lora: Any) -> Any:
    """A tiny model whose adapter already does something."""
    model = with_lora(tiny(family), Lora(rank=4, **lora)).model
    torch.manual_seed(1)
    for weight in model.parameters():
        if weight.requires_grad and not weight.any():
            torch.nn.init.normal_(weight, std=0.1)
    return model


def loss_and_gradients(way: Flat | Padded, model: Any, batch: Batch) -> tuple[float, list[torch.Tensor]]:
    model.eval().zero_grad(set_to_none=True)  # some families have dropout of their own
    with way.in_use():
        loss = way.loss(batch, 0.0)
        loss.backward()
    return loss.item(), [weight.grad for weight in model.parameters() if weight.grad is not None]


def assert_same(one: tuple[float, list[torch.Tensor]], other: tuple[float, list[torch.Tensor]]) -> None:
    assert one[0] == pytest.approx(other[0], rel=1e-5)
    assert len(one[1]) == len(other[1]) > 0
    for mine, its in zip(one[1], other[1], strict=True):
        assert float((mine - its).norm()) <= 1e-4 * float(its.norm()) + 1e-7


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_end_to_end_learn_the_same_in_every_family_or_are_padded(family: str) -> None:
    """Where the trial says yes, loss and gradients are those of padded rows; it says no where that cannot be.

    What they are held against is computed before anything is changed: layers as PEFT and transformers have them. Some
    tiny models blow rounding up; there it counts who is nearer to what double precision gives.
    """
    model, batch = adapted(family), collate(ROWS, 0)
    ordinary = loss_and_gradients(Padded(model), model, batch)
    try:
        whole = copy.deepcopy(model).double()
        exact = loss_and_gradients(Padded(whole), whole, batch)
    except RuntimeError:  # experts multiply in single precision only
        exact = ordinary
    way, why = choose_way(model, ROWS, 0, AUTO)
    found = loss_and_gradients(way, model, batch)
    assert found[0] == pytest.approx(ordinary[0], rel=1e-5)
    for mine, its, wanted in zip(found[1], ordinary[1], exact[1], strict=True):
        allowed = 1e-4 * wanted.norm() + 2 * (its - wanted).norm() + 1e-7
        assert (mine - wanted).norm() <= allowed
    assert isinstance(way, Padded) == (family in PADDED), why
    assert {"adapted_layers", "norms", "gates"} <= why.keys()


@pytest.mark.parametrize("lengths", [[1], [2], [SHORT_ROW], [1, 1, 7], [5, 60, 64, 64, 70, SHORT_ROW]])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_attention_of_short_rows_is_torchs_own(lengths: list[int], groups: int) -> None:
    torch.manual_seed(0)
    shapes = ((4, sum(lengths), 8), (groups, sum(lengths), 8), (groups, sum(lengths), 12))
    inputs = [torch.randn(shape, requires_grad=True) for shape in shapes]
    onward = torch.randn(sum(lengths), 4, 12)
    mine = ShortRows.apply(*inputs, 0.3, Groups(lengths))
    rows = zip(*(each[None].split(lengths, 2) for each in inputs), strict=True)
    alone = [scaled_dot_product_attention(*row, is_causal=True, scale=0.3, enable_gqa=True) for row in rows]
    its = torch.cat(alone, 2)[0].transpose(0, 1)
    torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-5)
    for one, other in zip(*(torch.autograd.grad(each, inputs, onward) for each in (mine, its)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_rows_of_like_length_are_grouped_and_others_are_not() -> None:
    assert cuts([]) == []
    assert cuts([20, 21, 22, 23]) == [(0, 4)]
    assert cuts([10, 12, 250, 256]) == [(0, 2), (2, 4)]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("places", [1, 4, 256])
def test_the_loss_of_a_head_is_torchs_own(
    smoothing: float, biased: bool, places: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a token that is nearly sure and one that is nearly impossible, in portions of any size, with filler."""
    monkeypatch.setattr("trainer.speed.head.places_at_once", lambda *_: places)
    monkeypatch.setattr("trainer.speed.head.places_in_cache", lambda *_: max(1, places // 2))
    torch.manual_seed(0)
    hidden, weight = torch.randn(9, 16, requires_grad=True), torch.randn(50, 16) * 5
    bias = torch.randn(50) if biased else None
    targets = torch.randint(0, 50, (9,))
    logits = torch.nn.functional.linear(hidden, weight, bias)
    targets[0], targets[1] = logits[0].argmax(), logits[1].argmin()
    its = torch.nn.functional.cross_entropy(logits, targets, label_smoothing=smoothing)
    mine = HeadLoss.apply(torch.nn.functional.pad(hidden, (0, 0, 0, 7)), weight, bias, targets, smoothing)
    torch.testing.assert_close(mine, its, rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad(2 * each, hidden)[0] for each in (mine, its)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rows", [ROWS, [row(300, 100, seed=7), row(290, 20, seed=8), *ROWS]])
def test_in_bf16_sizes_are_rounded_up_and_products_made_in_blocks_without_changing_the_mathematics(
    rows: list[Example],
) -> None:
    """Nearer to the gradients of fp32 than twice what ordinary bf16 is away from them."""
    model, batch = adapted("llama"), collate(rows, 0)
    exact = loss_and_gradients(Padded(model), model, batch)
    for weight in model.parameters():
        if not weight.requires_grad:
            weight.data = weight.data.to(torch.bfloat16)
    ordinary = loss_and_gradients(Padded(model), model, batch)
    way, _ = choose_way(model, rows, 0, AUTO)
    found = loss_and_gradients(way, model, batch)
    assert isinstance(way, Flat)
    assert found[0] == pytest.approx(exact[0], rel=0.01)
    away = [
        torch.cat([(a - b).flatten() for a, b in zip(each[1], exact[1], strict=True)]) for each in (found, ordinary)
    ]
    assert away[0].norm() <= 2 * away[1].norm()


def test_sizes_are_rounded_up_to_few() -> None:
    assert [rounded(tokens) for tokens in (1, 32, 33, 255, 256, 257, 1000)] == [32, 32, 64, 256, 256, 320, 1024]
    assert [rounded(tokens) for tokens in (1025, 1500, 3000)] == [1152, 1536, 3072]


def test_layers_with_the_same_input_are_computed_as_one() -> None:
    """Queries, keys and values; gate and up: four groups in each of two layers."""
    model = adapted("llama")
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    assert fuse(model) == "14 of 14 adapted layers in fewer passes over memory, in 8 groups"
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def test_a_layer_that_is_asked_twice_or_alone_answers_each_time() -> None:
    model = adapted("llama").eval()
    attention = model.base_model.model.model.layers[0].self_attn
    x, other = torch.randn(2, 1, 5, attention.q_proj.in_features)
    wanted = [layer(each) for layer in (attention.q_proj, attention.k_proj) for each in (x, other)]
    fuse(model)
    q, k = attention.q_proj, attention.k_proj
    found = [q(x), q(x), q(other), k(x), k(other)]
    for mine, its in zip(found, (wanted[0], wanted[0], *wanted[1:]), strict=True):
        torch.testing.assert_close(mine, its)


@pytest.mark.parametrize("lora", [{}, {"dropout": 0.3}, {"rslora": True}], ids=["plain", "dropout", "rslora"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "mixtral"])
def test_a_fused_layer_is_pefts_own(family: str, lora: dict[str, Any]) -> None:
    """The same loss and gradients, with dropout's noise drawn alike; with the adapter off, the base."""
    if family == "mixtral":
        lora = lora | {"target_modules": "attention"}
    model = adapted(family, **lora)
    batch, way = collate(ROWS, 0), Padded(model)
    found = []
    with model.disable_adapter():
        base = model(input_ids=batch.input_ids).logits
    for fused in (False, True):
        if fused:
            told = fuse(model)
        torch.manual_seed(3)
        model.train()
        loss = way.loss(batch, 0.0)
        model.zero_grad(set_to_none=True)
        loss.backward()
        found.append((loss.item(), [weight.grad for weight in model.parameters() if weight.grad is not None]))
    assert_same(*found)
    assert not told.startswith("0 of")
    with model.disable_adapter():
        torch.testing.assert_close(model(input_ids=batch.input_ids).logits, base)


def test_what_is_not_plain_is_left_to_peft() -> None:
    assert fuse(adapted("llama", dora=True)).startswith("0 of 14")


def test_a_row_does_not_feel_its_neighbours() -> None:
    """Not one bit of it: whatever stands before, a row's logits are the same."""
    model = adapted("llama").eval()
    flat = Flat(model)

    def second(first: Example) -> torch.Tensor:
        with flat.in_use(), torch.no_grad():
            return flat.logits(flatten(collate([first, ROWS[2]], 0)))[first.scored :]

    assert torch.equal(second(row(23, 9, 3, 1)), second(row(23, 9, 3, 8)))


def test_a_model_whose_rows_meet_is_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial finds out: here attention takes all rows for one."""
    monkeypatch.setattr(ShortRows, "apply", lambda q, k, v, *_: v.repeat_interleave(2, 0).transpose(0, 1))
    way, why = choose_way(adapted("llama"), ROWS, 0, AUTO)
    assert isinstance(way, Padded) and "differ by" in why["rows"]


def test_only_what_can_change_the_loss_is_computed() -> None:
    """Padding, what follows a row's last learned token, and a row that teaches nothing."""
    nothing = Example([9, 8, 7], [IGNORED] * 3)
    flat = flatten(collate([row(7, 2, 2), nothing, row(4, 1)], 0))
    assert flat.lengths.tokens == [3, 4]
    assert flat.positions.tolist() == [[0, 1, 2, 0, 1, 2, 3]]
    assert flat.scored_at.tolist() == [0, 1, 2, 4, 5, 6]
    assert flat.targets.tolist() == [*row(4, 1).ids[1:], *row(7, 2, 2).ids[2:5]]


@pytest.mark.parametrize(
    "rows",
    [[row(2, 1)], [row(100, 50), *[row(3, 1, seed=n) for n in range(7)]], [row(40, 39), row(40, 1)]],
    ids=["one tiny row", "a giant among tiny ones", "one token of many"],
)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_odd_batches_cost_what_they_cost_when_padded(rows: list[Example], smoothing: float) -> None:
    model = adapted("qwen2").eval()
    batch, flat = collate(rows, 0), Flat(model)
    with flat.in_use():
        loss = flat.loss(batch, smoothing)
    assert loss.item() == pytest.approx(Padded(model).loss(batch, smoothing).item(), rel=1e-5)


def test_layers_that_are_computed_again_know_their_rows() -> None:
    """Recomputation happens in the backward pass."""
    model = adapted("llama")
    batch, flat = collate(ROWS, 0), Flat(model)
    ordinary = loss_and_gradients(flat, model, batch)
    fuse_all(model)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()
    model.train()
    model.zero_grad(set_to_none=True)
    with flat.in_use():
        flat.loss(batch, 0.0).backward()
    assert_same(ordinary, (ordinary[0], [weight.grad for weight in model.parameters() if weight.grad is not None]))


def kept_by(mlp: Any, x: torch.Tensor) -> tuple[torch.Tensor, set[tuple[int, int]]]:
    """What it gives, and the place and width of each tensor of several tokens that it keeps for its backward pass."""
    kept = set()

    def keep(each: torch.Tensor) -> torch.Tensor:
        if each.numel() // each.shape[-1] == x.shape[1]:
            kept.add((each.data_ptr(), each.shape[-1]))
        return each

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda each: each):
        return mlp(x), kept


def test_an_mlp_with_a_gate_keeps_two_wide_tensors_and_gives_the_same_bits() -> None:
    model = adapted("llama").eval()
    mlp = model.base_model.model.model.layers[0].mlp
    found = []
    for gates in (False, True):
        fuse_all(model) if gates else fuse(model)
        x = torch.randn(1, 7, mlp.gate_proj.in_features, generator=torch.Generator().manual_seed(1)).requires_grad_()
        y, kept = kept_by(mlp, x)
        y.square().sum().backward()
        weights = [each.grad for each in mlp.parameters() if each.grad is not None]
        found.append((y, x.grad, *weights))
        model.zero_grad(set_to_none=True)
        wide = [width for _, width in kept if width == mlp.gate_proj.out_features]
        assert len(wide) == (2 if gates else 4)
    assert len(found[0]) == 8
    assert all(map(torch.equal, *found))


def test_an_mlp_that_does_more_than_its_parts_say_is_left_alone() -> None:
    model = adapted("llama")
    mlp = model.base_model.model.model.layers[0].mlp
    ordinary = mlp.forward
    mlp.forward = lambda x: 2 * ordinary(x)
    assert fuse_gates(model).startswith("1 of 2 MLPs")
