"""Files of a hub on a local server: what is downloaded, kept, refused, and said."""

from pathlib import Path

import pytest

from dlkit.core.errors import DlkitError
from dlkit.core.store.hub import fetch_tokenizer, repository
from tests.conftest import Hub

CONTENT = {
    "tokenizer.json": "{}",
    "tokenizer.model": "a model",
    "vocab.json": "{}",
    "merges.txt": "a b",
    "vocab.txt": "[UNK]",
}
BESIDE = ["added_tokens.json", "special_tokens_map.json", "tokenizer_config.json"]


def serve(hub: Hub, *files: str, revision: str = "main") -> None:
    folder = hub.folder / "someone" / "model" / "resolve" / revision
    folder.mkdir(parents=True)
    for file in files:
        (folder / file).write_text(CONTENT.get(file, "{}"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("served", "taken"),
    [
        ([*CONTENT, *BESIDE], ["tokenizer.json", *BESIDE]),
        (["vocab.txt", "tokenizer.model"], ["tokenizer.model"]),
        (
            ["vocab.txt", "vocab.json", "merges.txt", BESIDE[0]],
            ["vocab.json", "merges.txt", BESIDE[0]],
        ),
        (["vocab.txt", "merges.txt"], ["vocab.txt"]),
    ],
)
def test_the_first_kind_of_tokenizer_with_the_settings_beside_it(
    hub: Hub, served: list[str], taken: list[str]
) -> None:
    serve(hub, *served)
    folder = fetch_tokenizer("hf:someone/model")
    lacking = {"not-on-the-hub.txt"} if len(taken) < 4 else set()
    assert set(names(folder)) == {*taken, *lacking}
    assert (folder / taken[0]).read_text() == CONTENT[taken[0]]


def test_a_second_time_nothing_is_asked_for(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(hub, "vocab.txt")
    folder = fetch_tokenizer("hf:someone/model")
    hub.asked.clear()
    assert fetch_tokenizer("hf:someone/model") == folder
    assert hub.asked == []
    (folder / "vocab.txt").unlink()  # a download that was interrupted
    fetch_tokenizer("hf:someone/model")
    assert hub.asked == ["/someone/model/resolve/main/vocab.txt"]
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # offline
    assert fetch_tokenizer("hf:someone/model") == folder


def test_revisions_have_folders_of_their_own(hub: Hub) -> None:
    serve(hub, "vocab.txt")
    serve(hub, "tokenizer.json", revision="v1.0")
    first = fetch_tokenizer("hf:someone/model")
    second = fetch_tokenizer("hf:someone/model@v1.0")
    assert "vocab.txt" in names(first)
    assert "tokenizer.json" in names(second)
    hub.refused["/someone/model/resolve/refs%2Fpr%2F7/tokenizer.json"] = 404, "RevisionNotFound"
    with pytest.raises(DlkitError, match=r"hf:someone/model@refs/pr/7: no revision 'refs/pr/7'"):
        fetch_tokenizer("hf:someone/model@refs/pr/7")


@pytest.mark.parametrize(
    ("code", "reason", "message"),
    [
        (401, "GatedRepo", "gated model .* its terms at http.*/someone/model, and set HF_TOKEN"),
        (403, "", "gated model .*403"),
        (401, "RepoNotFound", "not on http.*401.*check the name"),
        (404, "RepoNotFound", "not on http.*404.*check the name"),
        (503, "", "503.*try again later"),
    ],
)  # fmt: skip
def test_what_the_hub_refuses_is_explained(hub: Hub, code: int, reason: str, message: str) -> None:
    hub.refused["/someone/model/resolve/main/tokenizer.json"] = code, reason
    with pytest.raises(DlkitError, match=f"^hf:someone/model: .*{message}"):
        fetch_tokenizer("hf:someone/model")


def test_no_tokenizer_no_server_and_no_name(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DlkitError, match="no tokenizer at .*404.*tokenizer.json.*check the name"):
        fetch_tokenizer("hf:someone/model")
    serve(hub, "vocab.txt")  # what was not there is not remembered
    fetch_tokenizer("hf:someone/model")
    for name in ("hf:gpt2", "hf:a/b/c", "hf:../x", "hf:a/..", "hf:a/b@", "hf:a/b@../c", "hf:a/é"):
        with pytest.raises(DlkitError, match="hf:owner/name@revision"):
            fetch_tokenizer(name)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DlkitError, match=r"not all of it is in the cache; .*cannot be reached"):
        fetch_tokenizer("hf:someone/else")


def test_a_web_page_is_no_file_and_nothing_is_kept(hub: Hub) -> None:
    serve(hub, "tokenizer.json")
    served = hub.folder / "someone/model/resolve/main/tokenizer.json"
    served.write_text("\n<!DOCTYPE html><title>Please log in</title>")
    with pytest.raises(DlkitError, match="web page"):
        fetch_tokenizer("hf:someone/model")
    served.write_text("{}")
    assert (fetch_tokenizer("hf:someone/model") / "tokenizer.json").read_text() == "{}"


def test_the_token_is_sent_to_the_hub_alone(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(hub, "config.json")
    monkeypatch.setenv("HF_TOKEN", "secret")
    base = "/someone/model/resolve/main/"
    here = f"{base}config.json"
    elsewhere = hub.address.replace("127.0.0.1", "localhost")
    hub.moved = {f"{base}near": here, f"{base}far": f"{elsewhere}{here}"}
    with repository("hf:someone/model") as found:
        assert found.has("near")
        assert hub.tokens == ["Bearer secret"] * 2
        assert found.has("far")
        assert hub.tokens[2:] == ["Bearer secret", None]
