"""What makes a step fast: each file one lever, the same mathematics, chosen by a rule that says why."""

BLOCK = 256  # tokens of one product where each size costs kernels of its own
STEP = 16  # that lengths are rounded up to in attention, for the same reason
LOGITS_AT_ONCE = 1 << 24  # that a head computes at most
SHORT_ROW = 256  # tokens up to which a CPU computes a row's attention faster by plain products (bf16 up to 4 times)


def rounded(tokens: int) -> int:
    """Up to one of few sizes: blocks, and a last one that is a multiple of 32 alone, of 64 behind others."""
    step = BLOCK // 8 if tokens < BLOCK else BLOCK // 4
    return -(-tokens // step) * step


def places_at_once(vocabulary: int) -> int:
    """How many places a head computes at once."""
    return max(1, min(BLOCK, LOGITS_AT_ONCE // vocabulary))
