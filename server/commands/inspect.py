"""`omlx inspect`: what a model is, how it is spoken to, and what it takes of memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import click

from ..engine.blas import has_own_gpu
from ..errors import ModelError, ModelNotFound
from ..model_places import complete_model, model_dir_option, model_places
from ..models.capabilities import read_capabilities, read_chat_template
from ..models.catalog import ModelEntry, model_folders, read_entry
from ..models.device_memory import DeviceMemory, device_memory
from ..models.hub import read_source
from ..models.mtp import mtp_report
from ..parsers.selection import choose_formats
from ..printable import printable
from ..settings.model_store import ModelSettingsStore
from ..settings.now import settings_now
from ..terminal import columns, json_option, print_json, size_text

_WINDOWS = (8_192, 32_768, 65_536, 131_072, 262_144, 1_048_576)


@click.command("inspect")
@click.argument("model", shell_complete=complete_model)
@model_dir_option
@json_option
def command(model: str, given_dirs: tuple[Path, ...], as_json: bool) -> None:
    """Say what MODEL, one of yours or a folder, is and takes.

    Its architecture, quantization and window, the memory it takes at several windows, how it marks thinking and tool
    calls, and whether it can draft with an MTP layer of its own, and why not. Nothing is loaded: the config, the
    headers of the weights and the chat template are read.
    """
    settings = settings_now(os.environ)
    folders = dict(model_folders(model_places(given_dirs)))
    if model not in folders and (Path(model) / "config.json").is_file():
        model, folders = Path(model).resolve().name, {Path(model).resolve().name: Path(model)}
    store = ModelSettingsStore(settings.settings_file)
    model_id = model if model in folders else store.real_name(model)
    if model_id not in folders:
        raise ModelNotFound(model, sorted(folders))
    entry = read_entry(folders[model_id], model_id)
    memory = device_memory(has_own_gpu())
    found = {**_facts(entry, memory), **_speech(entry), "memory": _memory(entry, memory)}
    if as_json:
        print_json(found)
    else:
        _print(found)


def _facts(entry: ModelEntry, memory: DeviceMemory) -> dict[str, object]:
    source = read_source(entry.path)
    report = mtp_report(entry.path)
    return {
        "id": entry.id,
        "path": str(entry.path),
        "repo": source and source.repo,
        "commit": source and source.commit,
        "kind": entry.kind,
        "architecture": entry.architecture,
        "quantization": entry.quantization,
        "size_bytes": entry.size_bytes,
        "context_window": entry.context_window,
        "window_in_memory": entry.within(memory).context_window,
        "mtp_compatible": report.mtp_compatible,
        "mtp_compatibility_reason": report.reason or None,
    }


def _speech(entry: ModelEntry) -> dict[str, object]:
    """How it is spoken to; where its tokenizer or template cannot be read, why."""
    try:
        formats = choose_formats(read_chat_template(entry.path) or "")
        capabilities = read_capabilities(entry.path)
    except ModelError as error:
        return {"tool_parser": None, "reasoning_parser": None, "chat_template": False, "problem": str(error)}
    sampling = capabilities.sampling
    return {
        "tool_parser": formats.tools,
        "reasoning_parser": formats.announced_reasoning,
        "chat_template": capabilities.chat_template is not None,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "problem": None,
    }


def _memory(entry: ModelEntry, memory: DeviceMemory) -> list[dict[str, object]]:
    """What it takes with one sequence as long as the window, and whether models may take so much here."""
    footprint = entry.footprint
    if footprint is None:
        return []
    windows = sorted({*(window for window in _WINDOWS if window < entry.context_window), entry.context_window})
    return [
        {
            "window": window,
            "weight_bytes": footprint.weight_bytes,
            "kv_bytes": footprint.kv_bytes(window),
            "working_bytes": footprint.transient_bytes(window),
            "total_bytes": footprint.total_bytes(window),
            "fits": footprint.total_bytes(window) <= memory.usable,
        }
        for window in windows
    ]


def _print(found: Mapping[str, object]) -> None:
    sampling = [f"{name} {found[name]}" for name in ("temperature", "top_p", "top_k") if found.get(name) is not None]
    mtp = "usable" if found["mtp_compatible"] else f"no: {found['mtp_compatibility_reason']}"
    rows = [
        ("model", found["id"]),
        ("folder", found["path"]),
        ("from", found["repo"] and f"{found['repo']} at {str(found['commit'])[:7]}"),
        ("architecture", f"{found['architecture']}, {found['quantization'] or 'floats'}"),
        ("weights", size_text(float(str(found["size_bytes"])))),
        ("window", f"{found['context_window']:,} tokens; {found['window_in_memory']:,} in this machine's memory"),
        ("tool calls", found["tool_parser"]),
        ("thinking", found["reasoning_parser"]),
        ("sampling", ", ".join(sampling) or "its config names none"),
        ("MTP", mtp),
        ("problem", found["problem"]),
    ]
    for name, value in rows:
        if value is not None:
            click.echo(f"{name:<13} {printable(str(value))}")
    click.echo()
    memory = found["memory"]
    assert isinstance(memory, list)
    shown = [
        (
            f"{row['window']:,}",
            *(size_text(row[name]) for name in ("kv_bytes", "working_bytes", "total_bytes")),
            "yes" if row["fits"] else "no",
        )
        for row in memory
    ]
    click.echo(columns([("WINDOW", "KEYS, VALUES", "WORK", "IN ALL", "FITS HERE"), *shown]))
