"""How texts begin and end: an item's end is real, it begins without a prompt, and plain checkpoints are as before."""

from dataclasses import replace
from pathlib import Path

import pytest

from model.checkpoint import CONFIG, load, read, save
from model.decoding.decoder import Decoder
from model.errors import CheckpointError
from model.generate import generate
from model.text.frame import PLAIN, START, TextFrame
from model.text.prompt import Prompt
from model.text.text_stream import TextStream
from model.text.tokenizer import Tokenizer
from tests.model.small import small_checkpoint

PLAIN_CHECKPOINT = small_checkpoint()
ITEMS = replace(PLAIN_CHECKPOINT, tokenizer=PLAIN_CHECKPOINT.tokenizer.framed(TextFrame(separator="e")))
AFTER = replace(PLAIN_CHECKPOINT, tokenizer=PLAIN_CHECKPOINT.tokenizer.framed(TextFrame(context="abc\n")))


def test_an_item_is_read_after_its_beginning_and_an_empty_prompt_after_the_context() -> None:
    seen, a = PLAIN_CHECKPOINT.seen(), PLAIN_CHECKPOINT.tokenizer.encode("a").tolist()
    assert Prompt(ITEMS.tokenizer, seen, "").ids.tolist() == [START]
    assert Prompt(ITEMS.tokenizer, seen, "a").ids.tolist() == [START, *a]
    assert Prompt(AFTER.tokenizer, seen, "a").ids.tolist() == a
    assert Prompt(AFTER.tokenizer, seen, "").ids.tolist() == AFTER.tokenizer.encode("abc\n").tolist()
    for checkpoint in (ITEMS, AFTER):
        assert Prompt(checkpoint.tokenizer, seen, "").tokens == 0
        assert Prompt(checkpoint.tokenizer, seen, "").penalised.tolist() in ([], [START])
    assert Prompt(ITEMS.tokenizer, seen, "a").penalised.tolist() == a


def test_an_item_ends_before_its_separator_and_a_stop_string_still_wins_where_it_comes_first() -> None:
    decoder = Decoder(ITEMS)
    pieces = list(generate(decoder, ITEMS.tokenizer, "", max_tokens=500))
    assert pieces[-1].finish_reason == "stop"
    assert "e" not in "".join(piece.text for piece in pieces)
    stream = TextStream(ITEMS.tokenizer, ["b"], include_stop=True)
    assert stream.feed(ITEMS.tokenizer.encode("abce").tolist()) == "ab"
    assert stream.stop_reason == "b"
    stream = TextStream(ITEMS.tokenizer, ["b"], include_stop=True)
    assert stream.feed(ITEMS.tokenizer.encode("acebe").tolist()) == "ac"
    assert (stream.stopped, stream.stop_reason, stream.taken) == ("e", None, 3)


def test_a_context_is_read_as_a_prompt_is() -> None:
    texts = []
    for checkpoint, prompt in ((AFTER, ""), (PLAIN_CHECKPOINT, "abc\n")):
        pieces = generate(Decoder(checkpoint), checkpoint.tokenizer, prompt, max_tokens=60)
        texts.append("".join(piece.text for piece in pieces))
    assert texts[0] == texts[1]


def test_a_frame_is_saved_and_names_another_model(tmp_path: Path) -> None:
    for number, checkpoint in enumerate((PLAIN_CHECKPOINT, ITEMS, AFTER)):
        save(checkpoint, tmp_path / str(number))
        assert load(tmp_path / str(number)).tokenizer.frame == checkpoint.tokenizer.frame
    assert len({read(tmp_path / str(number)).digests.model for number in range(3)}) == 3
    assert "texts" not in (tmp_path / "0" / CONFIG).read_text()


@pytest.mark.parametrize(
    "texts", ['{"separator": ""}', '{"end": "x"}', "[]", '{"separator": "a", "context": "b"}', "7"]
)
def test_a_damaged_frame_is_refused(texts: str, tmp_path: Path) -> None:
    save(PLAIN_CHECKPOINT, tmp_path / "a")
    config = (tmp_path / "a" / CONFIG).read_text()
    start = config.index('  "digests"')
    (tmp_path / "a" / CONFIG).write_text(config[:start] + f'  "texts": {texts}\n}}\n')
    with pytest.raises(CheckpointError, match="texts are damaged"):
        load(tmp_path / "a")


def test_a_tokenizer_without_a_frame_is_plain() -> None:
    assert Tokenizer("ab").frame == PLAIN
    assert TextFrame.from_json({}) == PLAIN
