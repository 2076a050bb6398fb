"""Networks in a folder of this machine, as DINOv2's and CLIP's are published; nothing is downloaded, no code is run.

The folder holds ``config.json``, ``model.safetensors``, ``preprocessor_config.json`` and, for text, a tokenizer.

References:
    | DINOv2: Learning Robust Visual Features without Supervision (Oquab et al., 2023)
    | https://arxiv.org/abs/2304.07193
    | Learning Transferable Visual Models From Natural Language Supervision (Radford et al., 2021)
    | https://arxiv.org/abs/2103.00020
    | Exposing flaws of generative model evaluation metrics (Stein et al., 2023)
    | https://arxiv.org/abs/2306.04675
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from reverie.core.errors import RequestError
from reverie.evaluation.features.resize import resized

NEEDED = ("config.json", "model.safetensors", "preprocessor_config.json")


class Pretrained(NamedTuple):
    """A network of images, and of texts where it has an encoder of those.

    Arguments:
        kind: its architecture's name, as in ``dinov2``.
        network: on the CPU, in eval mode.
        images: images ``[B, C, H, W]`` in [-1, 1] to vectors ``[B, D]``.
        texts: texts to vectors ``[N, D]`` in the same space; None without such an encoder.
        size: D.
        side: to which images are resized.
    """

    kind: str
    network: nn.Module
    images: Callable[[Tensor], Tensor]
    texts: Callable[[Sequence[str]], Tensor] | None
    size: int
    side: int


def load_pretrained(path: str) -> Pretrained:
    """The network of a folder.

    Raises:
        RequestError: ``transformers`` is missing, or the folder does not hold such a network.
    """
    folder = Path(path).expanduser()
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if not path or missing:
        raise RequestError(f"--features pretrained:FOLDER needs a folder with {', '.join(missing or NEEDED)}")
    try:
        import transformers
    except ImportError:
        raise RequestError(
            "pretrained features need a package: pip install '.[pretrained]' in Reverie's folder"
        ) from None
    try:
        network = transformers.AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
        prepare = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
        tokenizer = None
        if hasattr(network, "get_text_features"):
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        side = _side(prepare)
        mean, std = (torch.tensor(prepare[f"image_{name}"]).reshape(1, -1, 1, 1) for name in ("mean", "std"))
    except Exception as error:
        line = (str(error) or type(error).__name__).splitlines()[0]
        raise RequestError(f"{folder} does not hold a network of images that can be read ({line})") from error
    network = network.eval().requires_grad_(False)

    def images(x: Tensor) -> Tensor:
        parts = [_vectors(network, ((resized(p.float(), side) + 1.0) / 2.0 - mean) / std) for p in x.split(32)]
        return torch.cat(parts)

    def texts(words: Sequence[str]) -> Tensor:
        assert tokenizer is not None
        tokens = tokenizer(list(words), padding=True, truncation=True, return_tensors="pt")
        with torch.no_grad():
            return _tensor(network.get_text_features(**tokens))

    size = images(torch.zeros(1, 3, side, side)).shape[1]
    return Pretrained(network.config.model_type, network, images, texts if tokenizer else None, size, side)


def _vectors(network: Any, pixels: Tensor) -> Tensor:
    with torch.no_grad():
        if hasattr(network, "get_image_features"):
            return _tensor(network.get_image_features(pixel_values=pixels))
        return network(pixel_values=pixels).last_hidden_state[:, 0]  # the class token


def _tensor(found: Any) -> Tensor:
    """Vectors, which newer versions of the library wrap."""
    return found if isinstance(found, Tensor) else found.pooler_output


def _side(prepare: dict[str, Any]) -> int:
    """The side of the square that the network was trained on."""
    size = prepare.get("crop_size") or prepare["size"]
    return int(size if isinstance(size, int) else size.get("height") or size["shortest_edge"])
