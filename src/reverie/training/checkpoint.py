"""Checkpoints: enough to go on bit for bit, in safetensors and JSON, complete or absent.

A checkpoint is written to a temporary folder, flushed, and renamed; a kill at any moment leaves the last complete one.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reverie.core.errors import ReverieError
from reverie.core.files import RESUMES, disk_error, sync_folder
from reverie.core.model import Memory
from reverie.core.player import Progress
from reverie.core.run import Run
from reverie.training.loop import Loop, Seat
from reverie.training.optimizers import state_names


class WeightsError(ReverieError):
    """Weights that are not of the model they are loaded into."""


def save_tensors(tensors: dict[str, Tensor], file: Path, metadata: dict[str, str] | None = None) -> None:
    """Writes tensors to a safetensors file, flushed to the disk.

    Raises:
        ReverieError: the disk is full or refuses.
    """
    # safetensors takes no views, no shared memory and no channels_last: contiguous copies where needed.
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    try:
        save_file(plain, file, metadata)
        file.chmod(0o644)  # safetensors makes files for their owner alone; the rest of a run is for all to read
        with open(file, "rb+") as stream:
            os.fsync(stream.fileno())
    except (OSError, SafetensorError) as error:
        raise disk_error(error, file, RESUMES) from error


def memory_keys(model: nn.Module) -> set[str]:
    """The names, in a state dict, that belong to ``Memory``."""
    prefixes = [f"{name}." for name, module in model.named_modules() if isinstance(module, Memory)]
    return {key for key in model.state_dict() if any(key.startswith(prefix) for prefix in prefixes)}


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A model's state without its ``Memory``; a tensor that stands under two names is kept once."""
    memory = memory_keys(model)
    return {key: value for key, value in model.state_dict().items() if key not in memory}


def save(run: Run, loop: Loop, spent: float) -> Path:
    """Writes a checkpoint of a loop and removes the oldest beyond ``keep``.

    Arguments:
        run: the folder.
        loop: between two rounds.
        spent: seconds spent in rounds so far.

    Raises:
        ReverieError: the disk is full or refuses; older checkpoints are kept.
    """
    final = run.checkpoints / f"{loop.progress.round:09d}"
    temporary = run.checkpoints / f".{final.name}.tmp"
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        loop.ranks.barrier()
        memory = memory_keys(loop.model)
        if memory:
            state = loop.model.state_dict()
            save_tensors({key: state[key] for key in memory}, temporary / f"memory-{loop.ranks.rank}.safetensors")
        if loop.ranks.first:
            _write(temporary, loop, spent)
        loop.ranks.barrier()
        if loop.ranks.first:
            # The same round may be there, of a budget that added none, or damaged.
            before = _set_aside(final) if final.exists() else None
            os.replace(temporary, final)
            sync_folder(run.checkpoints)
            if before:
                shutil.rmtree(before, ignore_errors=True)
    except (OSError, ReverieError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise error if isinstance(error, ReverieError) else disk_error(error, final, RESUMES) from error
    if loop.ranks.first:
        # One of a later round was damaged, and this run has gone on from before it: none is kept in its place.
        older = [folder for folder in finished(run) if folder.name <= final.name]
        for old in older[loop.config.keep :]:
            with suppress(OSError):
                shutil.rmtree(_set_aside(old), ignore_errors=True)
    return final


def _set_aside(folder: Path) -> Path:
    """Takes a checkpoint its name before it is removed: a kill in the middle leaves what the next start clears."""
    aside = folder.with_name(f".{folder.name}.old.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    return folder.replace(aside)


def _write(folder: Path, loop: Loop, spent: float) -> None:
    save_tensors(weights_of(loop.model), folder / "weights.safetensors")
    save_tensors(loop.average.state(), folder / "average.safetensors")
    tensors: dict[str, Tensor] = {}
    for i, seat in enumerate(loop.seats):
        for j, values in seat.optimizer.state_dict()["state"].items():
            tensors |= {f"{i}/{j}/{k}": v for k, v in values.items() if isinstance(v, Tensor)}
    save_tensors(tensors, folder / "optimizers.safetensors")
    state = {
        "progress": loop.progress._asdict(),
        "spent": spent,
        "average_updates": loop.average.updates,
        "world": loop.ranks.world,
        "precision": loop.precision,
        "device": loop.device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    with open(folder / "state.json", "w", encoding="utf-8") as stream:
        json.dump(state, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())


def _numbered(run: Run) -> list[Path]:
    """The checkpoints' folders, newest first."""
    return sorted((f for f in run.checkpoints.glob("[0-9]*") if re.fullmatch(r"\d{9,}", f.name)), reverse=True)


def finished(run: Run) -> list[Path]:
    """Complete checkpoints, newest first."""
    return [folder for folder in _numbered(run) if (folder / "state.json").is_file()]


def clear_halves(run: Run) -> None:
    """Removes what is left of checkpoints whose removal was cut short."""
    for folder in _numbered(run):
        if folder.is_dir() and not (folder / "state.json").is_file():
            shutil.rmtree(folder, ignore_errors=True)


DAMAGED = (
    OSError,
    ValueError,
    LookupError,
    ArithmeticError,
    TypeError,
    AttributeError,
    RuntimeError,
    SafetensorError,
    WeightsError,
)
"""What reading a damaged checkpoint may raise: the one before is tried then."""


def resume(run: Run, loop: Loop) -> tuple[float, list[str]] | None:
    """Takes the newest checkpoint that can be read into a loop.

    Returns:
        Seconds spent so far, and notes for the user; None where there is no checkpoint.

    Raises:
        ReverieError: there are checkpoints and none can be read.
    """
    notes: list[str] = []
    reasons: list[str] = []
    for folder in finished(run):
        try:
            spent = _read(folder, loop, notes)
        except DAMAGED as error:
            lines = f"{error} is missing" if isinstance(error, KeyError) else str(error) or type(error).__name__
            reasons.append(f"{folder.name}: {lines.splitlines()[0]}")
            notes.append(f"checkpoint {folder.name} is damaged ({lines.splitlines()[0]}); trying the one before")
            continue
        return spent, notes
    if reasons:
        remedy = "remove the folder to start afresh"
        if run.model_file.is_file():
            remedy = f"{run.model_file.name} is there to use, or to start from: start=run:{run.folder}, another --out"
        raise ReverieError(f"no checkpoint in {run.checkpoints} can be read ({reasons[0]}); {remedy}")
    return None


def _read(folder: Path, loop: Loop, notes: list[str]) -> float:
    state: dict[str, Any] = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    progress, spent, updates = _position(state, int(folder.name), loop)
    weights = load_file(folder / "weights.safetensors")
    average = load_file(folder / "average.safetensors")
    tensors = load_file(folder / "optimizers.safetensors")
    memory: dict[str, Tensor] = {}
    if memory_keys(loop.model):
        if state["world"] != loop.ranks.world:
            raise ReverieError(
                f"this run keeps a memory for each of {state['world']} processes; resume it with as many"
            )
        memory = load_file(folder / f"memory-{loop.ranks.rank}.safetensors")
    load_weights(loop.model, {**weights, **memory})
    loop.average.load(average, updates)
    for i, seat in enumerate(loop.seats):
        own = _optimizer_state(seat, dict(_grouped(tensors, f"{i}/")), progress.round)
        body = seat.optimizer.state_dict()
        seat.optimizer.load_state_dict({"state": own, "param_groups": body["param_groups"]})
    loop.progress = progress
    began = state.get("precision", loop.precision)  # checkpoints of before have none
    if began not in ("fp32", "bf16"):
        raise ValueError(f"no precision {began!r}")
    if began != loop.precision and state["device"] == loop.device.type:
        notes.append(f"it goes on in {began}, in which it began; {loop.precision} was found to be faster now")
        loop.precision = began
    if state["threads"] != torch.get_num_threads() or state["torch"] != torch.__version__:
        notes.append(
            f"the checkpoint was made with {state['threads']} threads and torch {state['torch']}, now there are "
            f"{torch.get_num_threads()} and {torch.__version__}: the run goes on, but not bit for bit"
        )
    return spent


def _position(state: dict[str, Any], round: int, loop: Loop) -> tuple[Progress, float, int]:
    """Where a checkpoint stands: progress, seconds spent, updates of the average.

    Raises:
        ValueError: no training of this loop gets there.
    """
    place = Progress(*(state["progress"][name] for name in Progress._fields))
    spent, updates = state["spent"], state["average_updates"]
    whole = all(type(number) is int for number in (place.round, place.images, updates))
    reached = place.round == round and 0 <= place.images <= round * loop.images and 0 <= updates <= round
    if not (whole and reached and 0 <= place.fraction <= 1 and 0 <= spent < math.inf):
        raise ValueError("state.json tells of a place that no training gets to")
    return place, float(spent), updates


def _optimizer_state(seat: Seat, known: dict[int, dict[str, Tensor]], round: int) -> dict[int, dict[str, Tensor]]:
    """A seat's optimiser state as it is in a checkpoint, laid out for its weights.

    Raises:
        ValueError: it is not the whole state of this optimiser, for these weights.
    """
    names = state_names(seat.player.optimizer)
    played = round > 0 and seat.player.window[0] <= 0.0 and names  # every player plays in the first round, if it may
    if (known or played) and known.keys() != set(range(len(seat.weights))):
        raise ValueError(f"the {seat.player.name}'s optimiser knows {len(known)} of {len(seat.weights)} weights")
    for values in known.values():
        if values.keys() != names:
            raise ValueError(f"the {seat.player.name}'s optimiser keeps {sorted(names)}, here are {sorted(values)}")
    return {place: _as_laid_out(values, seat.weights[place]) for place, values in known.items()}


def _as_laid_out(values: dict[str, Tensor], weight: Tensor) -> dict[str, Tensor]:
    """Optimiser state in the memory order of its weight: fused kernels walk both in step, whatever their strides."""
    if any(v.shape != (() if k == "step" else weight.shape) for k, v in values.items()):
        raise ValueError("the optimiser's state is of other weights")
    return {k: torch.empty_like(weight).copy_(v) if v.ndim else v for k, v in values.items()}


def _grouped(tensors: dict[str, Tensor], prefix: str) -> Iterator[tuple[int, dict[str, Tensor]]]:
    own: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            _, place, key = name.split("/", 2)
            own.setdefault(int(place), {})[key] = tensor
    yield from own.items()


def load_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copies weights into a model, in place.

    Raises:
        WeightsError: names or shapes differ.
    """
    shapes = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
    for key, tensor in weights.items():
        if key in shapes and list(tensor.shape) != shapes[key]:
            raise WeightsError(
                f"these weights are not of this model: '{key}' is {list(tensor.shape)} there, {shapes[key]} here"
            )
    missing, unexpected = model.load_state_dict(weights, strict=False)
    own = model.state_dict().keys() - memory_keys(model)  # a Part's weights are in the file of its own run
    missing = [key for key in missing if key in own]
    if missing or unexpected:
        odd = (missing or unexpected)[0]
        raise WeightsError(f"these weights are not of this model: '{odd}' is {'missing' if missing else 'unknown'}")
