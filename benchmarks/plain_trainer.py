"""The other side of `benchmarks.training`: fine-tuning as transformers' and PEFT's documentation shows it.

Nothing of deploycost's own training is used here: texts are padded to the maximum length, arithmetic is fp32, and what
the documentation leaves at its default is left at its default. Where it asks for a hyper-parameter, it is the one that
deploycost uses, so that both sides train the same thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from peft import (
    LoraConfig,
    PromptTuningConfig,
    TaskType,
    get_peft_model,
    prepare_model_for_kbit_training,
)
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from deploycost.dataset import LabelledTexts

MAX_LENGTH = 128
# PEFT knows these by default for BERT and RoBERTa, but not for DistilBERT; bitsandbytes must leave the heads alone.
QUERY_AND_VALUE = {"distilbert": ["q_lin", "v_lin"]}
HEADS = ["classifier", "pre_classifier", "pooler"]


@dataclass(frozen=True)
class PlainSetting:
    """What to train: `method` is one of full, lora, qlora, prompt."""

    method: str
    place: str
    model_type: str
    labels: int
    batch_size: int
    learning_rate: float
    epochs: int
    seed: int
    output_folder: str


def plain_trainer(setting: PlainSetting, train: LabelledTexts, callbacks: Sequence[TrainerCallback]) -> Trainer:
    """A `Trainer` ready to train."""
    tokenizer = AutoTokenizer.from_pretrained(setting.place)
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        setting.place,
        num_labels=setting.labels,
        dtype=torch.float32,
        quantization_config=_four_bits() if setting.method == "qlora" else None,
    )
    if setting.method == "qlora":
        # The documentation's default trades time for memory here; left off, as on the other side.
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    if setting.method in ("lora", "qlora"):
        config = LoraConfig(
            task_type=TaskType.SEQ_CLS,
            r=8,
            lora_alpha=16,
            lora_dropout=0.1,
            target_modules=QUERY_AND_VALUE.get(setting.model_type),
        )
        model = get_peft_model(model, config)
    if setting.method == "prompt":
        model = get_peft_model(model, _prompt_config(model.config))
    arguments = TrainingArguments(
        output_dir=setting.output_folder,
        per_device_train_batch_size=setting.batch_size,
        num_train_epochs=setting.epochs,
        learning_rate=setting.learning_rate,
        seed=setting.seed,
        report_to="none",
        disable_tqdm=True,
    )
    return Trainer(model=model, args=arguments, train_dataset=_tokenised(tokenizer, train), callbacks=list(callbacks))


def _prompt_config(sizes: PreTrainedConfig) -> PromptTuningConfig:
    return PromptTuningConfig(
        task_type=TaskType.SEQ_CLS,
        num_virtual_tokens=20,
        token_dim=sizes.hidden_size,
        num_layers=sizes.num_hidden_layers,
        num_attention_heads=sizes.num_attention_heads,
    )


def plain_accuracy(trainer: Trainer, setting: PlainSetting, test: LabelledTexts) -> float:
    """Accuracy, 0..1, of the trained model."""
    tokenizer = AutoTokenizer.from_pretrained(setting.place)
    predictions: Any = trainer.predict(_tokenised(tokenizer, test)).predictions  # pyright: ignore[reportArgumentType]
    return float((predictions.argmax(axis=-1) == test.labels).mean())


def _tokenised(tokenizer: PreTrainedTokenizerBase, rows: LabelledTexts) -> Dataset:
    texts = Dataset.from_dict({"text": list(rows.texts), "label": list(rows.labels)})
    return texts.map(
        lambda batch: tokenizer(batch["text"], padding="max_length", truncation=True, max_length=MAX_LENGTH),
        batched=True,
    )


def _four_bits() -> BitsAndBytesConfig:
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        llm_int8_skip_modules=HEADS,
    )
