"""What makes a step fast: each file one lever, the same mathematics, chosen by a rule that says why."""

BLOCK = 1024  # tokens of one product where each size costs kernels of its own
STEP = 16  # that lengths are rounded up to in attention, for the same reason
PLACES = 256  # that a head computes at once
BYTES_OF_LOGITS = 31 << 20  # at most; pages of larger tensors leave the process with them, and cost a fault each time
IN_CACHE = 1 << 20  # logits whose softmax a processor's cache holds
SHORT_ROW = 256  # tokens up to which a CPU computes a row's attention faster by plain products (bf16 up to 4 times)


def rounded(tokens: int) -> int:
    """Up to one of few sizes: four from each power of two to the next, multiples of 32 at least, then of a block."""
    step = max(32, 1 << max(0, min(tokens - 1, BLOCK - 1).bit_length() - 3))
    return -(-tokens // step) * step


def places_at_once(vocabulary: int, bytes_each: int) -> int:
    """How many places a head computes at once, where a logit takes `bytes_each`."""
    return max(1, min(PLACES, BYTES_OF_LOGITS // (vocabulary * bytes_each)))


def places_in_cache(vocabulary: int, device: str) -> int:
    """How many places' losses are computed at once; a GPU wants few and large operations."""
    return max(1, IN_CACHE // vocabulary) if device == "cpu" else PLACES
