"""A model's text side: what the API process knows of it without its weights.

Tokenizer, chat template and output formats are read from the model's folder; no MLX is imported.
"""

from __future__ import annotations
