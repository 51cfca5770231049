"""Decoding rows without padding them to one another.

Rows of about the same length share a group: one array of slots a layer, each with the same capacity. A large row is a
group of its own, in which no memory lies idle. One forward pass serves all groups; only attention, where a row's own
length matters, runs group by group. A row that joins, leaves or outgrows its capacity costs a copy of that row and of
nothing else; a large one joins without any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
from mlx_lm.models.cache import KVCache

from ..cache.codec import LayerCache
from .attention_route import OwnAttention, attention_modules, routed
from .decode_layout import Decided, Forward
from .messages import Batching

_READ_STEP = 64
"""Attention reads a group up to its longest row, rounded up to so many tokens."""
_GROWTH_TOKENS = 256
"""A large row's room grows by so much, as a prompt's does while it is computed."""
LARGE_ROW_TOKENS = 4096
"""A row of more is large where no one says."""


class SlotGroup:
    """Rows of one capacity. `lengths[i]` tokens of slot i hold values; slots past the last are unused."""

    def __init__(self, capacity: int, is_shared: bool = True) -> None:
        self.capacity = capacity
        self.is_shared = is_shared
        self.lengths: list[int] = []
        self._keys: list[mx.array] = []
        self._values: list[mx.array] = []

    @classmethod
    def of_one(cls, caches: Sequence[LayerCache]) -> SlotGroup:
        """A large row's: it takes over what the caches hold, one a layer, and leaves them empty."""
        group = cls(caches[0].keys.shape[2], is_shared=False)
        group.lengths = [caches[0].offset]
        group._keys, group._values = [cache.keys for cache in caches], [cache.values for cache in caches]
        for cache in caches:
            cache.keys = cache.values = None
        return group

    def grow(self, num_tokens: int) -> None:
        """Make room for so many tokens in the only row, a layer at a time, so that it is never held twice."""
        self.capacity = _round_up(num_tokens, _GROWTH_TOKENS)
        for layer in range(len(self._keys)):
            for arrays in (self._keys, self._values):
                held = arrays[layer][..., : self.lengths[0], :]
                shape = (*held.shape[:2], self.capacity - held.shape[2], held.shape[3])
                arrays[layer] = mx.concatenate([held, mx.zeros(shape, held.dtype)], axis=2)
                del held
            mx.eval(self._keys[layer], self._values[layer])

    def append(self, caches: Sequence[LayerCache]) -> None:
        """Copy a row's keys and values, one cache a layer, into the next slot."""
        slot, length = len(self.lengths), caches[0].offset
        self._make_room(slot + 1, caches)
        for layer, cache in enumerate(caches):
            self._keys[layer][slot : slot + 1, :, :length] = cache.keys[..., :length, :]
            self._values[layer][slot : slot + 1, :, :length] = cache.values[..., :length, :]
        self.lengths.append(length)
        mx.eval(self._keys, self._values)

    def view(self, slot: int) -> list[LayerCache]:
        """The row as single caches that look into the slot. They must be gone before the next write,
        which would have to copy the group for them."""
        caches: list[LayerCache] = []
        length = self.lengths[slot]
        for keys, values in zip(self._keys, self._values, strict=True):
            cache = KVCache()
            cache.keys, cache.values = keys[slot : slot + 1, :, :length], values[slot : slot + 1, :, :length]
            cache.offset = length
            caches.append(cache)
        return caches

    def remove(self, slot: int) -> None:
        """The last row moves into the slot."""
        last = len(self.lengths) - 1
        if slot != last:
            length = self.lengths[last]
            for arrays in (self._keys, self._values):
                for array in arrays:
                    array[slot, :, :length] = array[last, :, :length]
            mx.eval(self._keys, self._values)
        self.lengths[slot] = self.lengths[last]
        self.lengths.pop()
        self._give_back()

    def write(self, layer: int, positions: mx.array, keys: mx.array, values: mx.array) -> None:
        """Put `keys` and `values`, of shape [rows, heads, new, size], at `positions`, [slots, new]."""
        for arrays, new in ((self._keys, keys), (self._values, values)):
            array = arrays[layer]
            unused = array.shape[0] - new.shape[0]
            if unused:
                new = mx.pad(new, [(0, unused), (0, 0), (0, 0), (0, 0)])
            index = mx.broadcast_to(positions[:, None, :, None], new.shape)
            arrays[layer] = mx.put_along_axis(array, index, new, axis=2)

    def positions(self, num_new: int) -> mx.array:
        """Where each slot's next tokens go, shape [slots, num_new]. What unused slots get, no one reads."""
        starts = self.lengths + [0] * (self._keys[0].shape[0] - len(self.lengths))
        return mx.array(starts)[:, None] + mx.arange(num_new)

    def read(self, layer: int, length: int) -> tuple[mx.array, mx.array]:
        rows = len(self.lengths)
        return self._keys[layer][:rows, :, :length], self._values[layer][:rows, :, :length]

    def _give_back(self) -> None:
        """Let half of the slots go when a quarter is enough."""
        if not self.lengths:
            return  # the group goes
        have = self._keys[0].shape[0]
        if len(self.lengths) * 4 <= have:
            for arrays in (self._keys, self._values):
                for layer, array in enumerate(arrays):
                    arrays[layer] = mx.contiguous(array[: have // 2])
            mx.eval(self._keys, self._values)

    def _make_room(self, rows: int, like: Sequence[LayerCache]) -> None:
        """At least `rows` slots; their number doubles, so that joins seldom copy the group."""
        if not self._keys:
            self._keys = [_empty(1, self.capacity, cache.keys) for cache in like]
            self._values = [_empty(1, self.capacity, cache.values) for cache in like]
        have = self._keys[0].shape[0]
        if rows > have:
            for arrays in (self._keys, self._values):
                for layer, array in enumerate(arrays):
                    arrays[layer] = mx.concatenate([array, _empty(have, self.capacity, array)])


@dataclass(slots=True, eq=False)
class _Row:
    group: SlotGroup
    slot: int


@dataclass(frozen=True, slots=True)
class _GroupStep:
    """One group's part of a forward pass: its rows are `start` to `stop` of the batch. `positions` are
    where the new tokens go, `mask` what each of them sees of the first `read_length`."""

    group: SlotGroup
    start: int
    stop: int
    positions: mx.array
    mask: mx.array
    read_length: int


class SlotCache(OwnAttention):
    """One layer of all groups."""

    def __init__(self, layer: int, offset: mx.array, steps: Sequence[_GroupStep]) -> None:
        self.offset = offset
        self.keys: mx.array | None = None  # pipelines hang what they send on the last layer's keys
        self._layer = layer
        self._steps = steps

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        for step in self._steps:
            rows = slice(step.start, step.stop)
            step.group.write(self._layer, step.positions, keys[rows], values[rows])
        self.keys = keys
        return keys, values  # `attend` reads the slots instead

    def attend(self, queries: mx.array, scale: float, sinks: mx.array | None) -> mx.array:
        outputs = []
        for step in self._steps:
            keys, values = step.group.read(self._layer, step.read_length)
            outputs.append(
                mx.fast.scaled_dot_product_attention(
                    queries[step.start : step.stop], keys, values, scale=scale, mask=step.mask, sinks=sinks
                )
            )
        return outputs[0] if len(outputs) == 1 else mx.concatenate(outputs)


class SlotLayout(Decided):
    """A `DecodeLayout` for models all of whose layers have a plain `KVCache`. A row of more than `large_tokens` has a
    group to itself.

    Tokens that are not accepted stay where they were written, behind the row's end, where no one looks
    and the next ones go.
    """

    batching = Batching("batched")
    overruns = True

    def __init__(self, model: Forward, large_tokens: int = LARGE_ROW_TOKENS) -> None:
        self._model = model
        self._large_tokens = large_tokens
        self._modules = attention_modules(model)
        self._num_layers = 0
        self._rows: list[_Row] = []
        self._places: list[int] = []
        """Where the batch of the last step has each row."""
        self._groups: list[SlotGroup] = []

    def join(self, caches: list[LayerCache]) -> None:
        self._num_layers = len(caches)
        self._rows.append(self._place(caches, caches[0].offset + 1))

    def extract(self, row: int) -> list[LayerCache]:
        return self._rows[row].group.view(self._rows[row].slot)

    def leave(self, row: int) -> None:
        self._vacate(self._rows.pop(row))

    def forward(self, token_ids: Sequence[Sequence[int]] | mx.array) -> mx.array:
        inputs = token_ids if isinstance(token_ids, mx.array) else _even(token_ids)
        width = inputs.shape[1]
        for row in self._rows:
            if row.group.lengths[row.slot] + width > row.group.capacity:
                self._move_up(row, width)
        steps = self._plan(width)
        starts = {id(step.group): step.start for step in steps}
        self._places = places = [starts[id(row.group)] + row.slot for row in self._rows]
        if places != sorted(places):
            inputs = inputs[mx.array(sorted(range(len(places)), key=places.__getitem__))]
        offset = mx.array([length for step in steps for length in step.group.lengths])
        caches = [SlotCache(layer, offset, steps) for layer in range(self._num_layers)]
        with routed(self._modules):
            logits = self._model(inputs, cache=caches)
        return self.aligned(logits)

    def aligned(self, values: mx.array) -> mx.array:
        in_order = self._places == sorted(self._places)
        return values if in_order else values[mx.array(self._places)]

    def accept(self, counts: Sequence[int]) -> None:
        for row, count in zip(self._rows, counts, strict=True):
            row.group.lengths[row.slot] += count

    def may_draft(self, row: int) -> bool:
        del row
        return True

    def check(self, num_rows: int) -> None:
        assert len(self._rows) == num_rows, f"{len(self._rows)} rows, not {num_rows}"
        used = sorted((id(row.group), row.slot) for row in self._rows)
        slots = sorted((id(group), slot) for group in self._groups for slot in range(len(group.lengths)))
        assert used == slots, f"{len(used)} rows have slots, and {len(slots)} slots are taken"
        assert all(group.lengths for group in self._groups), "a group without rows"
        assert all(max(group.lengths) <= group.capacity for group in self._groups), "a row is longer than its slot"

    def take_back(self, counts: Sequence[int]) -> None:
        """Forget each row's last tokens that were accepted."""
        self.accept([-count for count in counts])

    def _plan(self, num_new: int) -> list[_GroupStep]:
        steps, start = [], 0
        for group in self._groups:
            positions = group.positions(num_new)
            read = min(group.capacity, _round_up(max(group.lengths) + num_new, _READ_STEP))
            mask = (mx.arange(read) <= positions[: len(group.lengths), :, None])[:, None]
            stop = start + len(group.lengths)
            steps.append(_GroupStep(group, start, stop, positions, mask, read))
            start = stop
        return steps

    def _place(self, caches: Sequence[LayerCache], needed: int) -> _Row:
        """Put a row where it has room for `needed` tokens: in a slot beside others, or in its own group if large."""
        if caches[0].offset > self._large_tokens:  # not bytes: a batch has its rows in one order on all ranks
            group = SlotGroup.of_one(caches)
            if group.capacity < needed:
                group.grow(needed)
            self._groups.append(group)
            return _Row(group, 0)
        capacity = _capacity(needed)
        group = next((group for group in self._groups if group.is_shared and group.capacity == capacity), None)
        if group is None:
            group = SlotGroup(capacity)
            self._groups.append(group)
        group.append(caches)
        return _Row(group, len(group.lengths) - 1)

    def _move_up(self, row: _Row, num_new: int) -> None:
        needed = row.group.lengths[row.slot] + num_new
        if not row.group.is_shared:
            row.group.grow(needed)
            return
        old = _Row(row.group, row.slot)
        moved = self._place(row.group.view(row.slot), needed)
        row.group, row.slot = moved.group, moved.slot
        self._vacate(old)

    def _vacate(self, gone: _Row) -> None:
        """Free a slot no row points to any more."""
        last = len(gone.group.lengths) - 1
        gone.group.remove(gone.slot)
        for row in self._rows:
            if row.group is gone.group and row.slot == last:
                row.slot = gone.slot
        if not gone.group.lengths:
            self._groups.remove(gone.group)


def _even(token_ids: Sequence[Sequence[int]]) -> mx.array:
    """Rows of one length: the last token is repeated."""
    width = max(map(len, token_ids))
    return mx.array([[*fed, *[fed[-1]] * (width - len(fed))] for fed in token_ids])


def can_slot(caches: Sequence[LayerCache]) -> bool:
    """Whether all layers keep plain keys and values, the only kind slots are made for."""
    return all(type(cache) is KVCache for cache in caches)


def _capacity(num_tokens: int) -> int:
    """The least of 256, 512, 768, 1024, 1536, 2048, 3072, 4096, … that holds so many tokens."""
    size = 256
    while size < num_tokens:
        if size >= 512 and size + size // 2 >= num_tokens:
            return size + size // 2
        size *= 2
    return size


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step


def _empty(rows: int, capacity: int, like: mx.array) -> mx.array:
    return mx.zeros((rows, like.shape[1], capacity, like.shape[3]), like.dtype)
