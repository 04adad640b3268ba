"""The names by which every engine hands a model its input and takes its output."""

from typing import Final

INPUT_NAMES: Final = ("input_ids", "attention_mask")
OUTPUT_NAME: Final = "logits"
