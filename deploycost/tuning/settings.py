"""From a method and a spec to the settings of the trainer: arithmetic, optimiser, arguments."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any

import torch
from transformers import TrainingArguments

from deploycost.errors import UserError
from deploycost.experiment import TrainingSpec
from deploycost.methods import Method
from deploycost.models.classifier import TunedClassifier


def half_precision(spec: TrainingSpec) -> torch.dtype | None:
    """The half precision that this device multiplies fast, or None: emulated bf16 is slower than fp32."""
    if not spec.mixed_precision:
        return None
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    capabilities = torch.cpu.get_capabilities()
    fast = any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    return torch.bfloat16 if fast else None


def batch_size_of(method: Method, spec: TrainingSpec) -> int:
    """Texts in a batch."""
    return spec.batch_size or method.batch_size


def arithmetic_of(spec: TrainingSpec) -> str:
    """What training computes on and in, as in `cuda in bf16`: it decides the numbers that come out."""
    return f"{'cuda' if torch.cuda.is_available() else 'cpu'} in {precision_name(spec)}"


def precision_name(spec: TrainingSpec) -> str:
    """The precision that matrices multiply in: `bf16`, `fp16` or `fp32`."""
    names = {torch.bfloat16: "bf16", torch.float16: "fp16", None: "fp32"}
    return names[half_precision(spec)]


def steps_of(method: Method, spec: TrainingSpec, rows: int) -> int:
    """Steps in all, for so many training rows."""
    return spec.epochs * -(-rows // batch_size_of(method, spec))


def optimiser_for(classifier: TunedClassifier, method: Method, spec: TrainingSpec) -> torch.optim.Optimizer:
    """AdamW with weight decay on matrices only; virtual tokens and singular values at their own rates, without it."""
    rates = method.learning_rates(spec.learning_rate)
    prompt, values = list(classifier.prompt_parameters()), classifier.singular_values()
    apart = set(map(id, [*prompt, *values]))
    own = [p for p in classifier.parameters() if p.requires_grad and id(p) not in apart]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in own if p.ndim >= 2], "lr": rates.weights, "weight_decay": spec.weight_decay},
        {"params": [p for p in own if p.ndim < 2], "lr": rates.weights, "weight_decay": 0.0},
        {"params": prompt, "lr": rates.virtual_tokens, "weight_decay": 0.0},
        {"params": values, "lr": rates.singular_values, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], fused=True)


def training_arguments(
    method: Method, spec: TrainingSpec, rows: int, folder: str, tracking: Mapping[str, Any]
) -> TrainingArguments:
    """The arguments of a `Trainer`; `folder` is scratch, `tracking` are those about logging."""
    precision = half_precision(spec)
    arguments = TrainingArguments(
        output_dir=folder,
        num_train_epochs=spec.epochs,
        per_device_train_batch_size=batch_size_of(method, spec),
        warmup_steps=round(spec.warmup_ratio * steps_of(method, spec, rows)),
        lr_scheduler_type="linear",
        max_grad_norm=0.0,  # the stability guard clips: it must see gradients as they are
        bf16=precision is torch.bfloat16,
        fp16=precision is torch.float16,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        torch_compile=spec.compile,
        seed=spec.seed,
        save_strategy="no",
        eval_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
        **tracking,
    )
    return _on_one_device(arguments)


def _on_one_device(arguments: TrainingArguments) -> TrainingArguments:
    """Keeps a `Trainer` from spreading the network over all GPUs that it sees.

    Its batches would be so many times larger, and replicas know nothing of hooks, quantised layers and allocated
    ranks. The device is asked for first: finding it is what counts the GPUs.
    """
    if arguments.device.type == "cuda":
        arguments._n_gpu = 1
    return arguments


def require_compiler(spec: TrainingSpec) -> None:
    """Refuses `compile` on a machine without a C++ compiler, which torch.compile makes its kernels with.

    Raises:
        UserError: with what to do.
    """
    candidates = [os.environ.get("CXX", ""), "g++", "clang++", "c++"]
    if spec.compile and not any(name and shutil.which(name) for name in candidates):
        raise UserError(
            "--compile needs a C++ compiler and none was found (CXX, g++, clang++); install one, or leave --compile out"
        )
