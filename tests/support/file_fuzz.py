"""Damaged files: a random change of a file's bytes, by a seed."""

import random


def damaged(content: bytes, seed: int) -> bytes:
    """Change, remove, repeat, insert or overwrite some bytes, or cut off the end."""
    chance = random.Random(seed)
    size = max(len(content), 1)
    # Headers and footers are as likely as all the rest.
    start = chance.choice((chance.randrange(size), chance.randrange(min(size, 64))))
    if chance.random() < 0.3:
        start = size - 1 - start
    length = min(chance.choice((1, 2, 4, 16, 300)), size - start)
    end = start + length
    random_bytes = bytes(chance.randrange(256) for _ in range(length))
    bit = bytes([content[start] ^ 1 << chance.randrange(8)]) if content else b"x"
    return chance.choice(
        (
            content[:start] + bit + content[start + 1 :],
            content[:start] + random_bytes + content[end:],
            content[:start] + bytes(length) + content[end:],
            content[:start] + b"\xff" * length + content[end:],
            content[:start] + random_bytes + content[start:],
            content[:start] + content[end:],
            content[:end] + content[start:end] + content[end:],
            content[:start],
            content + random_bytes,
        )
    )
