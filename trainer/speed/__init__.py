"""What makes a step fast: each file one lever, the same mathematics, chosen by a rule that says why."""

LOGITS_AT_ONCE = 1 << 24  # that a head computes; of fewer it would read its own weights from memory too often
SHORT_ROW = 256  # tokens up to which a CPU computes a row's attention faster by plain products (bf16 up to 4 times)
