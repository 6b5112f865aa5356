"""Predict the memory of a training step from the model's sizes and the run's settings. Torch-free.

The counts of what a layer keeps for its backward pass were read off autograd's own list of saved tensors, family by
family, for PEFT's LoRA layers and transformers' attention with a mask of padding, and for rows end to end;
`tests/managed/test_memory.py` holds them against real steps.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple

from trainer.memory.shape import Matrix, Shape
from trainer.spec import RunSpec
from trainer.speed import SHORT_ROW, places_at_once, places_in_cache, rounded
from trainer.speed.like_lengths import cuts

# Imported libraries, the tokenizer and what the first step loads: measured on Linux with torch 2.13.
CPU_PROCESS = 500_000_000
# What oneDNN makes for each shape of a product: a run held 120 (1M parameters) to 320 MB (6M) more.
BF16_KERNELS = 250_000_000
CUDA_CONTEXT = 500_000_000  # kernels and handles of the driver, outside of torch's own count
OPTIMIZER_BYTES = {"adamw": 8, "adamw-fused": 8, "adamw-8bit": 2, "adamw-8bit-paged": 2}  # a trained parameter
SOFTMAX_BYTES = 8  # the logits that a cache holds, in fp32 again, and their softmax
LOGIT_BYTES = 12  # the loss's log-softmax, its gradient and that of the logits, each in fp32, at the same time


class Kept(NamedTuple):
    """How many tensors of each width a layer keeps for its backward pass, all linear layers being adapted."""

    hidden: int  # inputs of the norms and of the adapted layers
    queries: int  # queries, keys and values (repeated to the width of the queries), what attention gives
    keys: int
    inner: int  # the MLP's gate, its activation, up, and their product
    again: int = 2  # of the inner ones, that are made again where rows lie end to end


GENERIC = Kept(4, 4, 0, 4)
FAMILIES = dict.fromkeys(("llama", "mistral", "qwen2", "gemma", "granite", "smollm3"), GENERIC) | {
    "qwen3": Kept(4, 5, 1, 4),  # norms of queries and keys
    "olmo2": Kept(4, 5, 1, 4),
    "gemma2": Kept(6, 4, 0, 4),  # a second norm behind attention and behind the MLP
    "gemma3_text": Kept(6, 5, 1, 4),
    "glm4": Kept(6, 5, 0, 4, 0),
    "phi3": Kept(4, 5, 0, 4, 0),
    "cohere2": Kept(3, 4, 0, 4),  # attention and MLP share a norm
    "starcoder2": Kept(4, 4, 0, 2, 0),  # an MLP without a gate
    "gpt_neox": Kept(3, 5, 0, 2, 0),
}


class Row(NamedTuple):
    """A row's tokens, and how many of them are scored."""

    tokens: int
    scored: int


@dataclass(frozen=True)
class Load:
    """What a step holds at once: `rows` of at most `longest` tokens, on which device, in which precision.

    Where rows lie end to end, `end_to_end` are those of the batch that needs most, the longest first.
    """

    rows: int
    longest: int
    device: str = "cpu"
    precision: str = "fp32"
    base_precision: str = "fp32"
    recomputes: bool = False
    end_to_end: tuple[Row, ...] = ()
    # What a run knows better, in bytes: the process without its model, and the frozen weights as they are loaded.
    process: int | None = None
    weights: int | None = None

    @property
    def casts(self) -> bool:
        """Whether products are of another precision than the base, which autocast then converts to."""
        return self.precision not in ("fp32", self.base_precision)

    @property
    def tokens(self) -> int:
        """Tokens that are computed at once, with padding where rows are padded."""
        if not self.end_to_end:
            return self.rows * self.longest
        tokens = sum(row.tokens for row in self.together)
        return rounded(tokens) if self.device == "cpu" and self.base_precision == "bf16" else tokens

    def bytes_of_logits(self, vocabulary: int) -> int:
        """Of all tokens; of rows end to end the scored ones, a portion at a time."""
        if not self.end_to_end:
            return self.tokens * vocabulary * LOGIT_BYTES
        scored, size = sum(row.scored for row in self.together), 4 if self.precision == "fp32" else 2
        places, in_cache = places_at_once(vocabulary, size), places_in_cache(vocabulary, self.device)
        return vocabulary * (min(scored, places) * size + min(scored, places, in_cache) * SOFTMAX_BYTES)

    @property
    def together(self) -> tuple[Row, ...]:
        """The rows that lie end to end in one portion."""
        return self.end_to_end[: self.rows]


@dataclass(frozen=True)
class Parts:
    """Bytes by purpose at the moment when a step holds the most; `rough` where the family is not one we counted."""

    process: int
    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    rough: bool

    @property
    def total(self) -> int:
        """Bytes of all parts together."""
        return sum(self.by_name().values())

    @property
    def growing(self) -> int:
        """The bytes that fewer rows at once make fewer."""
        return self.activations + self.logits

    def by_name(self) -> dict[str, int]:
        """The bytes of each part."""
        return {name: value for name, value in asdict(self).items() if name != "rough"}


def estimate(shape: Shape, spec: RunSpec, load: Load) -> Parts:
    """The parts of one step's peak.

    weights: stored parameters times the bytes of their type in memory, half a byte and an eighth with 4 bits (NF4,
    arXiv 2305.14314); under autocast (bf16, fp16) frozen fp32 weights are kept converted for the backward pass, too.
    adapter: rank * (inputs + outputs) of every adapted matrix in fp32 (Hu et al., arXiv 2106.09685), and what is
    trained whole.
    gradients, optimizer: of the adapter alone; AdamW keeps two moments (arXiv 1711.05101), in 8 bits a byte each.
    activations: `_padded` or `_end_to_end` for each layer; recomputed, the input of each layer and one layer whole
    (arXiv 1604.06174).
    logits: `bytes_of_logits`, or what a layer's backward pass takes where that is more.
    """
    adapted = shape.adapted(spec.lora.target_modules)
    trained = sum(spec.lora.rank * (each.rows + each.columns) for each in adapted) + _whole(shape, spec)
    layer = (_end_to_end if load.end_to_end and not load.casts else _padded)(shape, spec, load, adapted)
    kept, at_once = shape.layers * layer, 0
    passing = 2 * load.tokens * shape.inner * (4 if load.precision == "fp32" else 2)  # gradients within an MLP
    if load.recomputes:
        hidden = 4 if load.casts or load.precision == "fp32" else 2
        kept, at_once = shape.layers * load.tokens * shape.hidden * hidden, layer
    head = load.bytes_of_logits(shape.vocabulary)
    process = CUDA_CONTEXT if load.device == "cuda" else CPU_PROCESS
    if load.process is not None:
        process = load.process
    if load.device == "cpu" and load.precision == "bf16":
        process += BF16_KERNELS
    return Parts(
        process=process,
        weights=_weights(shape, spec, load) if load.weights is None else load.weights + _converted(shape, spec, load),
        adapter=4 * trained,
        gradients=4 * trained,
        optimizer=OPTIMIZER_BYTES[spec.optimizer.kind] * trained,
        activations=kept + at_once + (0 if head > at_once + passing else passing),
        logits=max(0, head - at_once) if head > at_once + passing else 0,
        rough=shape.family not in FAMILIES,
    )


def _padded(shape: Shape, spec: RunSpec, load: Load, adapted: list[Matrix]) -> int:
    """Bytes that one layer keeps of padded rows.

    An adapted layer keeps its input (shared by those with the same one) and its product with A; with dropout, a mask
    and a dropped input of its own. Attention keeps its mask in each layer: one number for each token of the row.
    Under autocast each adapted layer has a two-byte copy of its input, while the norms stay in fp32.
    """
    kept, half = FAMILIES.get(shape.family, GENERIC), load.precision != "fp32"
    one = [each for each in adapted if each.layer == 0]
    numbers = _inner(shape, kept, one) + spec.lora.rank * len(one) + load.longest
    if half:
        numbers += sum(each.columns == shape.hidden for each in one) * shape.hidden + 5 * shape.queries
        in_full = (kept.hidden - 2) * shape.hidden + (kept.queries - 4) * shape.queries + kept.keys * shape.keys
        size = 2 * numbers + 4 * in_full
    else:
        numbers += kept.hidden * shape.hidden + kept.queries * shape.queries + kept.keys * shape.keys
        size = 4 * numbers
    if spec.lora.dropout:
        dropped = sum(each.columns for each in one)
        shared = 2 * shape.hidden + shape.inner
        size += (2 if half else 4) * max(0, 2 * dropped - shared)
    return load.tokens * size


def _end_to_end(shape: Shape, spec: RunSpec, load: Load, adapted: list[Matrix]) -> int:
    """Bytes that one layer keeps of rows end to end, computed in the precision of the base.

    Keys and values are not repeated. A short row on a CPU keeps who looked at whom, for each head; torch's kernel,
    which computes the others, keeps what it gave.
    """
    kept, size = FAMILIES.get(shape.family, GENERIC), 4 if load.precision == "fp32" else 2
    one = [each for each in adapted if each.layer == 0]
    numbers = kept.hidden * shape.hidden + (kept.queries - 2) * shape.queries + (kept.keys + 2) * shape.keys
    again = max(0, kept.again - bool(spec.lora.dropout))  # dropout keeps the input that it drops parts of
    numbers += shape.inner * (kept.inner - again) if again else _inner(shape, kept, one)
    numbers += spec.lora.rank * len(one) + (sum(each.columns for each in one) if spec.lora.dropout else 0)
    short = sorted(row.tokens for row in load.together if load.device == "cpu" and 0 < row.tokens <= SHORT_ROW)
    scores = sum((after - first) * short[after - 1] ** 2 for first, after in cuts(short))
    shares = shape.heads * scores + shape.queries * (load.tokens - sum(short))
    return size * (load.tokens * numbers + shares)


def _inner(shape: Shape, kept: Kept, adapted: list[Matrix]) -> int:
    """Numbers that an MLP keeps for a token: without adapters it need not keep its last product."""
    reached = any(shape.inner in (each.rows, each.columns) for each in adapted)
    return shape.inner * (kept.inner if reached else max(0, kept.inner - 1))


def _weights(shape: Shape, spec: RunSpec, load: Load) -> int:
    """Bytes of the frozen weights in memory; what is quantised are the linear layers, without embeddings and head."""
    size = 2 if load.base_precision == "bf16" else 4
    packed = {"none": float(size), "8bit": 1.0, "4bit": 0.52}[spec.quantise]
    linear = _linear(shape)
    return int(linear * packed) + (shape.parameters - linear) * size + _converted(shape, spec, load)


def _converted(shape: Shape, spec: RunSpec, load: Load) -> int:
    """Bytes of the linear layers once more, and of the head, which may share the embeddings' weights."""
    if not load.casts or spec.quantise != "none":
        return 0
    return 2 * (_linear(shape) + shape.vocabulary * shape.hidden)


def _linear(shape: Shape) -> int:
    return sum(each.rows * each.columns for each in shape.matrices if each.layer is not None)


def _whole(shape: Shape, spec: RunSpec) -> int:
    """Parameters of the modules that are trained whole."""
    names = [name.strip() for name in spec.lora.modules_to_save.split(",") if name.strip()]
    return sum(each.rows * each.columns for each in shape.matrices if each.name.split(".")[-1] in names)
