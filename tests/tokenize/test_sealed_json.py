"""The checksum of a tokenizer's file."""

import hashlib
import json
from pathlib import Path

from dlkit.tokenize import load
from tests.tokenize.helpers import error_line


def test_a_changed_file_fails_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    text = load().to_json()
    changed = text.replace('"the":', '"teh":') if '"the":' in text else text.replace(":300,", ":9,")
    assert changed != text
    path.write_text(changed, encoding="utf-8")
    assert "checksum" in error_line("--text", "x", "-m", path)
    path.write_text(json.dumps(json.loads(text), indent=2), encoding="utf-8")  # same content
    assert load(path).vocab == load().vocab
    content = json.loads(text)
    without = {key: value for key, value in content.items() if key != "sha256"}
    compact = json.dumps(without, ensure_ascii=False, separators=(",", ":"))
    assert content["sha256"] == hashlib.sha256(compact.encode()).hexdigest()
    path.write_text(compact, encoding="utf-8")  # as files were before
    assert load(path).merges == load().merges
