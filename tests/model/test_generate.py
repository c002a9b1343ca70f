"""One prompt to one text: reproducible from its seed, only of characters training saw, ended for the stated reason."""

import numpy as np
import pytest

from model.checkpoint import Checkpoint
from model.decoding.decoder import Decoder
from model.errors import ParameterError, TokenizerError
from model.generate import Piece, TokenLogprobs, generate
from model.sampling.parameters import SamplingParameters
from model.text.prompt import Prompt, count_unseen
from model.text.utf8_ids import BYTES
from tests.model.plain import PlainReader
from tests.model.small import CELLS, small_checkpoint

SMALL = small_checkpoint()
DECODER = Decoder(SMALL)


def pieces_of(prompt: str = "the ", max_tokens: int = 200, seed: int = 1, **options: object) -> list[Piece]:
    parameters = SamplingParameters(seed=seed, temperature=0.9)
    arguments = {"max_tokens": max_tokens, "parameters": parameters, **options}
    return list(generate(DECODER, SMALL.tokenizer, prompt, **arguments))  # type: ignore[arg-type]


def text_of(prompt: str = "the ", max_tokens: int = 200, seed: int = 1, **options: object) -> str:
    return "".join(piece.text for piece in pieces_of(prompt, max_tokens, seed, **options))


def test_the_same_seed_writes_the_same_text_and_another_seed_another() -> None:
    assert text_of() == text_of()
    assert text_of(seed=2) != text_of(seed=1)


def test_each_choice_of_a_seed_is_a_text_of_its_own() -> None:
    texts = [text_of(choice=choice) for choice in range(4)]
    assert len(set(texts)) == 4
    assert texts[0] == text_of()


def test_a_shorter_text_is_the_beginning_of_a_longer_one() -> None:
    assert text_of(max_tokens=200).startswith(text_of(max_tokens=50))
    assert len(text_of(max_tokens=50)) == 50


def test_the_prompt_is_read_and_matters() -> None:
    assert text_of("the ") != text_of("the,")
    assert not text_of("the ").startswith("the ")


def test_drawing_by_hand_gives_the_same_text() -> None:
    """The loop spelt out with temperature 0: read the prompt, then take the likeliest and read it."""
    reader, shown = PlainReader(SMALL), ""
    for token in SMALL.tokenizer.encode("the ").tolist():
        reader.read(token)
    for _ in range(30):
        token = int(reader.ids[reader.logits().argmax()])
        shown += SMALL.tokenizer.decode([token])
        reader.read(token)
    assert text_of(max_tokens=30, parameters=SamplingParameters(temperature=0)) == shown


@pytest.mark.parametrize("quantization", ["int8", "fp32"])
@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_writes_the_characters_training_saw_and_no_other(cell: str, quantization: str) -> None:
    unseen = np.concatenate([np.arange(BYTES), BYTES + np.arange(2, 12)])
    checkpoint = small_checkpoint(cell, unseen=unseen)  # type: ignore[arg-type]
    decoder = Decoder(checkpoint, quantization)  # type: ignore[arg-type]
    hot = SamplingParameters(temperature=100, seed=5)
    pieces = generate(decoder, checkpoint.tokenizer, "月", max_tokens=600, parameters=hot)
    text = "".join(piece.text for piece in pieces)
    assert len(text) == 600
    assert set(text) == set(checkpoint.tokenizer.characters) - set("abcdefghij")


def test_a_prompt_of_characters_training_never_saw_is_read_as_bytes() -> None:
    prompt = Prompt(SMALL.tokenizer, DECODER.ids, "aΩ🚀b")
    assert prompt.ids.tolist() == [258, *"Ω🚀".encode(), 259]
    assert prompt.ids.dtype == np.int32
    assert (prompt.tokens, prompt.unseen) == (8, 2)
    assert len(text_of("aΩ🚀b")) == 200
    assert text_of("Ω") != text_of("Ψ")


def test_a_known_character_that_training_never_saw_counts_as_unseen() -> None:
    seen = np.setdiff1d(SMALL.seen(), [259])
    assert count_unseen(SMALL.tokenizer.encode("abab月日"), seen) == 3


def test_an_empty_prompt_reads_a_line_break() -> None:
    prompt = Prompt(SMALL.tokenizer, DECODER.ids, "")
    assert (prompt.ids.tolist(), prompt.tokens, prompt.unseen) == ([BYTES], 0, 0)
    assert text_of("") == text_of("\n")


def test_a_text_of_no_characters_ends_by_its_length() -> None:
    assert pieces_of(max_tokens=0) == [Piece("", "length", 0)]


def test_only_the_last_piece_has_a_reason_and_ids_drawn_are_counted() -> None:
    pieces = pieces_of(max_tokens=40)
    assert [piece.finish_reason for piece in pieces] == [None] * 40 + ["length"]
    assert [piece.tokens for piece in pieces] == [*range(1, 41), 40]


def test_a_stop_string_ends_the_text_before_it() -> None:
    whole = text_of()
    stop = whole[50:53]
    place = whole.index(stop)
    pieces = pieces_of(stop=["never such text", stop])
    assert "".join(piece.text for piece in pieces) == whole[:place]
    assert pieces[-1].finish_reason == "stop"
    assert pieces[-1].tokens == place + len(stop)


def test_what_was_held_back_for_a_stop_string_is_shown_when_the_text_ends() -> None:
    whole = text_of(max_tokens=60)
    pieces = pieces_of(max_tokens=60, stop=[whole[-4:] + "never"])
    assert "".join(piece.text for piece in pieces) == whole
    assert pieces[-1] == Piece(whole[-4:], "length", 60)


def test_generated_bytes_are_counted_one_by_one_and_shown_as_whole_characters() -> None:
    every = Checkpoint(config=SMALL.config, tokenizer=SMALL.tokenizer, tensors=SMALL.tensors)
    pieces = list(
        generate(
            Decoder(every), every.tokenizer, "a", max_tokens=300, parameters=SamplingParameters(temperature=2, seed=3)
        )
    )
    text = "".join(piece.text for piece in pieces)
    assert pieces[-1].tokens == 300
    assert len(text) < 300
    text.encode("utf-8")


def entries_of(pieces: list[Piece]) -> list[TokenLogprobs]:
    return [entry for piece in pieces for entry in piece.logprobs]


def test_log_probabilities_change_no_text_and_come_with_the_piece_that_shows_it() -> None:
    plain, reported = pieces_of(max_tokens=40), pieces_of(max_tokens=40, logprobs=2)
    assert [piece._replace(logprobs=()) for piece in reported] == plain
    assert [len(piece.logprobs) for piece in reported] == [1] * 40 + [0]
    for piece in reported[:-1]:
        assert SMALL.tokenizer.decode([entry.token for entry in piece.logprobs]) == piece.text


def test_every_drawn_id_is_reported_once_and_in_order_also_what_is_held_back_or_cut_off() -> None:
    whole = text_of(max_tokens=60)
    expected = entries_of(pieces_of(max_tokens=60, logprobs=1))
    held = pieces_of(max_tokens=60, logprobs=1, stop=[whole[10:14] + "never", whole[50:53]])
    assert held[-1].finish_reason == "stop"
    assert entries_of(held) == expected[: held[-1].tokens]
    assert max(len(piece.logprobs) for piece in held) >= 4
    unfinished = pieces_of(max_tokens=60, logprobs=1, stop=[whole[-4:] + "never"])
    assert len(unfinished[-1].logprobs) >= 4
    assert entries_of(unfinished) == expected


def test_log_probabilities_are_of_the_model_s_own_distribution() -> None:
    """Spelt out: read the prompt and every drawn id, and take the softmax of what the decoder says."""
    odd = SamplingParameters(seed=1, temperature=3, top_k=9, repetition_penalty=2)
    found = entries_of(pieces_of(max_tokens=30, parameters=odd, logprobs=3))
    reader = PlainReader(SMALL)
    for token in SMALL.tokenizer.encode("the ").tolist():
        reader.read(token)
    for token, logprob, top in found:
        wide = reader.logits()[0].astype(np.float64)
        expected = dict(zip(DECODER.ids.tolist(), wide - np.log(np.exp(wide).sum()), strict=True))
        assert logprob == pytest.approx(expected[token], abs=1e-5)
        best = sorted(expected, key=lambda one: -expected[one])[:3]
        assert [one for one, _ in top] == best
        assert [chance for _, chance in top] == pytest.approx([expected[one] for one in best], abs=1e-5)
        reader.read(token)
    assert len(found) == 30


def test_as_many_of_the_likeliest_are_reported_as_were_asked_for_and_exist() -> None:
    for asked, given in ((0, 0), (1, 1), (10_000, len(DECODER.ids))):
        (first,) = pieces_of(max_tokens=1, logprobs=asked)[0].logprobs
        assert len(first.top) == given
    assert entries_of(pieces_of(max_tokens=5)) == []


def test_bad_requests_are_refused_before_the_first_piece() -> None:
    with pytest.raises(ParameterError):
        generate(DECODER, SMALL.tokenizer, "a", max_tokens=5, stop=[""])
    with pytest.raises(TokenizerError, match="surrogate"):
        generate(DECODER, SMALL.tokenizer, "\ud800", max_tokens=5)
