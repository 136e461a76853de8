"""Tokens of a Gemma 3's prompts and answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.vision_stream.models import prompts

if TYPE_CHECKING:
    from modal_workers.vision_stream.models.gemma.hugging_face import Gemma3Config, PreTrainedTokenizerFast


@dataclass(frozen=True)
class TurnTokens:
    """Tokens of a user's turn: up to the end of its last frame, and the rest."""

    frames: list[int]
    text: list[int]

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.frames) + len(self.text)


class Words:
    """Tokenizer of one model, with the special tokens that are used here."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, config: Gemma3Config, end_tokens: Sequence[int]) -> None:
        """Find the special tokens.

        Raises:
            SaccadeError: MODEL_FILE_INVALID if the tokenizer lacks one.
        """
        self.tokenizer = tokenizer
        self.vocabulary = int(config.text_config.vocab_size)
        #: Tokens that a context may have.
        self.longest = int(config.text_config.max_position_embeddings)
        self.image_token = int(config.image_token_id)
        self._begin_of_image, self._end_of_image = int(config.boi_token_index), int(config.eoi_token_index)
        begin, soft, end = (
            str(tokenizer.convert_ids_to_tokens(token))
            for token in (self._begin_of_image, self.image_token, self._end_of_image)
        )
        self._frame = f"\n\n{begin}{soft * int(config.mm_tokens_per_image)}{end}\n\n"
        #: Tokens that a frame has beside the one that stands for it in ``prompt``.
        self.tokens_of_a_frame = len(self.encode(self._frame)) - 1
        end_of_turn = tokenizer.convert_tokens_to_ids(prompts.END_OF_TURN)
        if end_of_turn in (None, tokenizer.unk_token_id) or tokenizer.bos_token_id is None:
            raise _unusable(f"its tokenizer has no {prompts.END_OF_TURN} or no token of the beginning")
        #: Tokens that end an answer.
        self.end_tokens = frozenset({int(end_of_turn), *end_tokens})
        #: Tokens that are never part of an answer: one of an image, for example, would stand for a frame.
        self.control_tokens = self._control_tokens()
        #: First tokens of an answer of yes and of no.
        self.yes, self.no = self._first_tokens(prompts.YES, prompts.NO)

    def turn(self, frames: int, text: str, *, first: bool) -> TurnTokens:
        """Return the tokens of a user's turn, as the processor of Gemma 3 makes them."""
        words = prompts.frames_of_turn(frames, first=first) + prompts.end_of_turn(text)
        tokens = self.encode(words.replace(prompts.FRAME, self._frame))
        if first:
            tokens.insert(0, int(self.tokenizer.bos_token_id))
        split = len(tokens) - tokens[::-1].index(self._end_of_image) if frames else 0
        return TurnTokens(tokens[:split], tokens[split:])

    def prompt(self, frames: int, text: str, *, first: bool) -> list[int]:
        """Return the tokens of a user's turn with one token for each frame, as engines take them."""
        tokens = self.encode(prompts.frames_of_turn(frames, first=first) + prompts.end_of_turn(text))
        return [int(self.tokenizer.bos_token_id), *tokens] if first else tokens

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text."""
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _control_tokens(self) -> list[int]:
        images = {self.image_token, self._begin_of_image, self._end_of_image}
        control = (images | {int(token) for token in self.tokenizer.all_special_ids}) - self.end_tokens
        # An image's token may lie beyond the vocabulary of the network's head.
        return sorted(token for token in control if token < self.vocabulary)

    def _first_tokens(self, *answers: Sequence[str]) -> list[list[int]]:
        found = [{self.encode(word)[0] for word in words} for words in answers]
        own = [tokens.difference(*found[:place], *found[place + 1 :]) for place, tokens in enumerate(found)]
        if not all(own):
            raise _unusable("its tokenizer begins yes and no with the same token")
        return [sorted(tokens) for tokens in own]


def _unusable(why: str) -> SaccadeError:
    return SaccadeError(
        ErrorCode.MODEL_FILE_INVALID,
        f"The model cannot be used here: {why}.",
        hint="Choose an instruction-tuned Gemma 3 that takes images.",
    )
