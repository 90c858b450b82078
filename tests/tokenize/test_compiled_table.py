"""Keys of the compiled hash table."""

import numpy as np


def test_keys_are_distinct() -> None:
    """Strings that differ in any one byte or in their length, at the end of the data and not."""
    from dlkit.tokenize import compiled_table

    base = bytes(range(1, 31))
    strings = {base[:n] for n in range(1, 31)} | {bytes(n) for n in range(1, 31)}
    strings |= {base[:k] + b"\xff" + base[k + 1 : n] for n in (7, 8, 15, 16, 30) for k in range(n)}
    keys = set()
    for string in strings:
        alone = compiled_table.string_key(np.frombuffer(string, np.uint8), 0, len(string))
        inside = np.frombuffer(b"x" + string + b"y" * 20, np.uint8)
        assert compiled_table.string_key(inside, 1, 1 + len(string)) == alone
        keys.add(alone)
    assert len(keys) == len(strings)
