"""`POST /v1/completions` as OpenAI has it, with the constraint always on: a completion is the code of one real item.

The arguments about items are those of a vLLM server with llmrec's logits processor (`vllm_xargs`, docs/serving.md).
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.indexes.spelling import LETTERS
from llmrec.indexes.trie import ROOT
from llmrec.recommenders.llm import LLMRecommender
from llmrec.serving.live import Live
from llmrec.serving.problems import Problem, invalid
from llmrec.serving.questions import AskDraws
from llmrec.serving.schemas import Body, ItemId
from llmrec.serving.service import Service
from llmrec.types import Rows

MOST_DRAWS = 128
"""Items that one request may draw: prompts times n."""

MOST_CHARACTERS = 50_000
"""Of one prompt's text."""

MOST_TOKENS = 8192
"""Of all prompts of a request: what has begun cannot be stopped, and its time grows with the square of the length."""

CODE_TOKEN = re.compile(r"<(?P<letter>[a-z])_(?P<code>0|[1-9][0-9]{0,8})>")


class ItemArguments(Body):
    """What vLLM calls extra arguments."""

    item_candidates: list[ItemId] | None = Field(None, description="The only items that may come.")
    item_excluded: list[ItemId] = Field([], description="Items that must not come.")


class CompletionRequest(Body):
    """OpenAI's request; fields that could not keep their meaning here are refused."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"prompt": "Items taken in order:", "n": 2, "seed": 7}]})

    model: str | None = Field(None, description="The name in /v1/models.")
    prompt: str | list[str] | list[int] | list[list[int]] = Field(
        description="Text, in which codes of real items become item tokens and nothing else becomes control; or token "
        "ids, which are taken as they are."
    )
    n: int = Field(1, ge=1, le=MOST_DRAWS)
    max_tokens: int | None = Field(None, ge=1, description="Must hold a code; leave it out.")
    temperature: float | int = Field(1.0, ge=0, le=2, description="0: the best item.")
    top_p: float | int = Field(1.0, gt=0, le=1)
    seed: int | None = Field(None, ge=0, lt=2**63)
    stream: bool = False
    user: str | None = Field(None, description="Not used.")
    vllm_xargs: ItemArguments = ItemArguments()


class Choice(BaseModel):
    """One item, as its code and by its name."""

    index: int
    text: str
    finish_reason: Literal["stop"] = "stop"
    logprobs: None = None
    item_id: str | None
    title: str | None


class Usage(BaseModel):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(BaseModel):
    """OpenAI's answer. The text is empty where no item may come."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None


def router(service: Service) -> APIRouter:
    """The route over one service, whose recommender is a language model."""
    routes = APIRouter(prefix="/v1", tags=["openai"])

    @routes.post(
        "/completions",
        response_model=Completion,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
    )
    async def completions(body: CompletionRequest, request: Request) -> Any:
        """Items drawn from the model's distribution behind a prompt."""
        live = service.catalog.current
        if body.model not in (None, service.settings.name):
            raise Problem(404, "model_not_found", f"The model here is '{service.settings.name}'.", "model")
        questions = await run_in_threadpool(_read, service, live, body)
        drawn = await service.answers(request, questions, None)
        made = _write(service, live, questions, drawn)
        service.metrics.items.inc(sum(choice.item_id is not None for choice in made.choices))
        return StreamingResponse(_events(made), media_type="text/event-stream") if body.stream else made

    return routes


def _read(service: Service, live: Live, body: CompletionRequest) -> list[AskDraws]:
    items, given = _items(live), _prompts(body.prompt)
    if len(given) * body.n > MOST_DRAWS:
        raise invalid(f"prompts times n may be at most {MOST_DRAWS}.", "n")
    prompts = [_token_ids(items, prompt) for prompt in given]
    if (tokens := sum(map(len, prompts))) > MOST_TOKENS:
        raise invalid(f"All prompts may have {MOST_TOKENS:,} tokens together; these have {tokens:,}.", "prompt")
    for name, ids in body.vllm_xargs:
        service.check_size(len(ids or ()), service.settings.max_candidates, name, f"vllm_xargs.{name}")
    if body.max_tokens is not None and body.max_tokens < items.levels:
        raise invalid(f"max_tokens must hold a whole code, {items.levels} tokens. Leave it out.", "max_tokens")
    candidates: Rows | None = None
    if body.vllm_xargs.item_candidates is not None:
        candidates = np.unique(live.rows(body.vllm_xargs.item_candidates)[0])
    excluded = np.unique(live.rows(body.vllm_xargs.item_excluded)[0])
    return [
        AskDraws(
            live, prompt, body.n, float(body.temperature), float(body.top_p),
            None if body.seed is None else body.seed + number, live.allowed(None), candidates, excluded,
        )
        for number, prompt in enumerate(prompts)
    ]  # fmt: skip


def _items(live: Live) -> ItemTokenizer:
    assert isinstance(live.recommender, LLMRecommender)  # or the route does not exist
    return live.recommender.task.items


def _prompts(prompt: str | Sequence[Any]) -> list[str | list[int]]:
    """OpenAI's four forms as a list of texts and lists of ids."""
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise invalid("Give at least one prompt.", "prompt")
    return [[*prompt]] if isinstance(prompt[0], int) else [*prompt]


def _token_ids(items: ItemTokenizer, prompt: str | list[int]) -> list[int]:
    if isinstance(prompt, str):
        if len(prompt) > MOST_CHARACTERS:
            raise invalid(f"A prompt may have {MOST_CHARACTERS:,} characters.", "prompt")
        prompt = encode_with_codes(items, prompt)
    size = len(items.tokenizer)
    if not prompt:
        raise invalid("A prompt has no token.", "prompt")
    if not all(0 <= token < size for token in prompt):
        raise invalid(f"A token id is outside of the vocabulary, 0 to {size - 1}.", "prompt")
    return prompt


def encode_with_codes(items: ItemTokenizer, text: str) -> list[int]:
    """Text as token ids, where a code that spells a real item becomes its tokens and all else stays words.

    `<a_3><b_7>` is an item if the catalog has it; `<a_3>` alone, or `<|im_end|>`, is what it looks like: characters.
    """
    ids: list[int] = []
    plain = at = 0
    while match := CODE_TOKEN.search(text, at):
        if code := _code_at(items, text, match.start()):
            ids += [*items.encode_texts([text[plain : match.start()]])[0], *code[0]]
            plain = at = code[1]
        else:
            at = match.end()
    return [*ids, *items.encode_texts([text[plain:]])[0]]


def _code_at(items: ItemTokenizer, text: str, start: int) -> tuple[list[int], int] | None:
    """The tokens of the item that is spelled at a place of a text, and where it ends."""
    node = torch.tensor(ROOT)
    ids: list[int] = []
    while not items.is_text and (match := CODE_TOKEN.match(text, start)) and len(ids) < items.levels:
        level, code = len(ids), int(match["code"])
        if match["letter"] != LETTERS[level] or code >= len(items.codebooks[level]):
            return None
        node = items.trie.find(node, torch.tensor(code))
        if int(node) < 0:
            return None
        ids.append(int(items.codebooks[level][code]))
        start = match.end()
        if bool(items.trie.is_leaf(node)):
            return ids, start
    return None


def _write(service: Service, live: Live, questions: Sequence[AskDraws], drawn: Sequence[Rows]) -> Completion:
    choices: list[Choice] = []
    tokens = 0
    for rows in drawn:
        for row in [None if row < 0 else int(row) for row in rows]:
            code = "" if row is None else str(live.code(row))
            choices.append(
                Choice(
                    index=len(choices),
                    text=code,
                    item_id=None if row is None else live.catalog.items[row],
                    title=None if row is None else live.catalog.title(row),
                )
            )
            tokens += 0 if row is None else len(_items(live).encode(row))
    asked = sum(len(question.prompt) for question in questions)
    return Completion(
        id=f"cmpl-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=service.settings.name,
        choices=choices,
        usage=Usage(prompt_tokens=asked, completion_tokens=tokens, total_tokens=asked + tokens),
    )


async def _events(made: Completion) -> AsyncIterator[str]:
    """Server-sent events, one an item: an item is nothing before its code is whole."""
    for choice in made.choices:
        part = made.model_copy(update={"choices": [choice], "usage": None})
        yield f"data: {json.dumps(part.model_dump(), ensure_ascii=False)}\n\n"
    yield "data: [DONE]\n\n"
