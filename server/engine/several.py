"""Several answers to one request, told as one: each event says whose it is, the last one ends them all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..events import ChoiceFinished, Event, Finished, PrefillProgress, Usage

if TYPE_CHECKING:
    from .generation import Generation, Sink


class GenerationGroup:
    """The admitted answers of one request, held and read as a single `Generation` is.

    They come prompt by prompt, `num_answers` to each.
    """

    def __init__(self, generations: Sequence[Generation], num_answers: int) -> None:
        self._generations = generations
        self._num_answers = num_answers
        # Bounded: what nobody takes waits in the streams, where it is joined.
        self._news: asyncio.Queue[list[Event] | Exception] = asyncio.Queue(len(generations))
        self._pumps = [asyncio.create_task(self._pump(choice)) for choice in range(len(generations))]
        self._num_open = len(generations)
        self.is_finished = False

    @property
    def usage(self) -> Usage:
        """The tokens so far: each prompt once, and what all answers came to."""
        usages = [generation.usage for generation in self._generations]
        prompts = [usages[first : first + self._num_answers] for first in range(0, len(usages), self._num_answers)]
        return Usage(
            num_prompt_tokens=sum(answers[0].num_prompt_tokens for answers in prompts),
            num_output_tokens=sum(usage.num_output_tokens for usage in usages),
            # whichever answer came first computed the prompt for the others
            num_cached_tokens=sum(min(usage.num_cached_tokens for usage in answers) for answers in prompts),
            num_reasoning_tokens=sum(usage.num_reasoning_tokens for usage in usages),
        )

    async def next(self, sink: Sink | None = None) -> list[Event]:
        """The events of the next step of any of them, as `Generation.next` gives them; never to `sink`."""
        del sink
        events = await self._news.get()
        if isinstance(events, Exception):
            self.is_finished = True
            raise events
        self.is_finished = any(isinstance(event, Finished) for event in events)
        return events

    def close(self) -> None:
        for pump in self._pumps:
            pump.cancel()
        for generation in self._generations:
            generation.close()

    async def _pump(self, choice: int) -> None:
        generation = self._generations[choice]
        try:
            while not generation.is_finished:
                events: list[Event] = []
                for event in await generation.next():
                    events += self._told(choice, event)
                await self._news.put(events)
        except Exception as error:  # whoever reads raises it
            await self._news.put(error)

    def _told(self, choice: int, event: Event) -> list[Event]:
        if isinstance(event, PrefillProgress):  # one bar is enough
            return [] if choice else [event]
        if not isinstance(event, Finished):
            return [replace(event, choice=choice)]
        self._num_open -= 1
        ended = ChoiceFinished(choice, event.reason, event.stop_sequence)
        return [ended] if self._num_open else [ended, replace(event, usage=self.usage)]
