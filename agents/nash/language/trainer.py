"""The trainer that a user of Hugging Face expects: model, judge, prompts and arguments, and `train`.

It works with the own transformer as well, needs no TRL, and records, resumes and stops as every run of this library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rlcore.agents.nash.language.agent import NashLanguage, copies_needed
from rlcore.agents.nash.language.config import NashLanguageConfig
from rlcore.agents.nash.language.copies import WholeCopies
from rlcore.agents.nash.language.judges import Judge
from rlcore.agents.nash.language.measure import measure
from rlcore.agents.nash.language.referee import Referee, TextReferee
from rlcore.agents.nash.language.source import Prompts, TextDuels
from rlcore.checks import check_device, check_integer
from rlcore.data.texts import Tokeniser, pad_left, texts_of
from rlcore.errors import ConfigError, DataError
from rlcore.interop.adapters import AdapterCopies
from rlcore.interop.huggingface import extra, tokeniser_of
from rlcore.nn.generation import Symbols, generate
from rlcore.reporting.loggers import Text
from rlcore.seeding import Streams
from rlcore.training.recorder import RunFolder
from rlcore.training.trainer import Callback, Phase

Rows = Sequence[Any]
"""Texts, or rows with `prompt`: a text or a list of messages. A `datasets.Dataset` will do."""


@dataclass(frozen=True)
class NashTrainerConfig(NashLanguageConfig):
    """The game and the optimiser, and how a run goes; field names are those of `TrainingArguments` where they exist."""

    output_dir: str = "runs/nash_language_policy"
    """Where metrics, TensorBoard events, checkpoints and the model go."""
    learning_rate: float = 5e-7
    """AdamW's step size, after the warm-up: small, for models of billions of weights; 1e-3 for tiny ones."""
    max_steps: int = 1000
    """Updates."""
    per_device_train_batch_size: int = 8
    """Prompts in a batch."""
    max_prompt_length: int = 512
    """Tokens of a prompt; of longer ones the last are kept."""
    logging_steps: int = 10
    """Updates between two lines of metrics."""
    eval_steps: int = 0
    """Updates between two evaluations; 0 evaluates at the end only."""
    save_steps: int = 500
    """Updates between two checkpoints; one is also written every 10 minutes."""
    eval_rows: int = 64
    """Prompts that an evaluation looks at."""
    log_completions: int = 4
    """Completions that an evaluation writes down."""
    both_orders: bool = True
    """Ask the judge about every pair both ways round, and take the mean."""
    device: str = "cpu"
    """Where the models are."""
    seed: int = 0
    """Of the order of the prompts and of all texts."""


class NashTrainer:
    """Fine-tunes a causal language model on pairwise preferences: `NashTrainer(model, args, judge=...).train()`."""

    def __init__(
        self,
        model: nn.Module | str,
        args: NashTrainerConfig,
        *,
        judge: Judge | Referee,
        train_dataset: Rows,
        processing_class: Any = None,
        ref_model: nn.Module | None = None,
        eval_dataset: Rows | None = None,
        peft_config: Any = None,
        callbacks: Iterable[Callback] = (),
        compute_metrics: Callable[[NashLanguage], Mapping[str, float]] | None = None,
    ) -> None:
        """`model` is one of Hugging Face, a path to one, or anything that can `read`, such as `Transformer`.

        `processing_class` is a tokeniser of theirs or a `Vocabulary`; None loads the one beside a model that is given
        by its path. `compute_metrics` is called at each evaluation with the agent.
        """
        check_run(args)
        if isinstance(model, str):
            name, library = model, extra("transformers")
            model = library.AutoModelForCausalLM.from_pretrained(name)
            processing_class = processing_class or library.AutoTokenizer.from_pretrained(name)
        assert isinstance(model, nn.Module)
        self.args, self.device, self.processing_class = args, check_device(args.device), processing_class
        self.tokeniser: Tokeniser = tokeniser_of(processing_class)
        self.symbols = Symbols(self.tokeniser.pad, self.tokeniser.end)
        copies = copies_of(model, args, ref_model, peft_config).to(self.device)
        if args.gradient_checkpointing:
            checkpoint_activations(copies)
        self.model: nn.Module = copies.network
        self.agent = NashLanguage(copies, self.symbols, args)
        self.referee = (
            judge if isinstance(judge, Referee) else TextReferee(judge, self.tokeniser, both_orders=args.both_orders)
        )
        self.prompts = self.read(train_dataset)
        evaluated = train_dataset if eval_dataset is None else eval_dataset
        self.eval_prompts = self.read([evaluated[k] for k in range(min(len(evaluated), args.eval_rows))])
        streams = Streams(args.seed)
        self.source = TextDuels(self.prompts, self.referee, args.per_device_train_batch_size,
                                generator=streams["texts"], device=self.device)  # fmt: skip
        self.callbacks, self.compute_metrics = tuple(callbacks), compute_metrics
        self.folder: RunFolder | None = None

    def read(self, rows: Rows) -> Prompts:
        """The prompts of a data set, conversations by the tokeniser's own template."""
        found: list[dict[str, Any]] = []
        for number in range(len(rows)):
            row = rows[number]
            row = {"prompt": row} if isinstance(row, str) else dict(row)
            if "prompt" not in row:
                raise DataError(f"row {number} of the data set has no column 'prompt', only {sorted(row)}; rename one")
            if not isinstance(row["prompt"], str):
                row["prompt"] = self.processing_class.apply_chat_template(
                    row["prompt"], tokenize=False, add_generation_prompt=True
                )
            found.append(row)
        tokens = [self.tokeniser.encode(row["prompt"]) for row in found]
        return Prompts(found, tokens, self.tokeniser.pad, self.args.max_prompt_length)

    def train(self, resume_from_checkpoint: bool = False) -> dict[str, float]:
        """Run to the end, or on from the last checkpoint, on the CPU bit for bit; then save the model."""
        k = self.args
        with RunFolder(k.output_dir, {"config": k}, resume=resume_from_checkpoint, checkpoint_every=k.save_steps,
                       checkpoint_seconds=600.0, label="nash") as self.folder:  # fmt: skip
            phases = [Phase(k.method, self.source, k.max_steps, self.agent.update)]
            result = self.folder.train(
                self.agent, phases, evaluate=self.evaluate, evaluate_every=k.eval_steps, log_every=k.logging_steps,
                main_metric="rewards/probabilities", callbacks=self.callbacks,
            )  # fmt: skip
            found = self.folder.finish(result)
        self.folder = None
        self.save_model()
        return found

    def evaluate(self) -> dict[str, float]:
        """Wins, KL, a lower bound of the exploitability, and what `compute_metrics` gives; training does not notice."""
        found, texts = measure(self.agent, self.eval_prompts, self.referee, seed=self.args.seed, device=self.device)
        if self.compute_metrics is not None:
            found |= {name: float(value) for name, value in self.compute_metrics(self.agent).items()}
        if self.folder is not None and self.args.log_completions:
            shown = zip(self.eval_prompts.rows, texts_of(texts, self.tokeniser), strict=True)
            lines = [f"|{cell(row['prompt'])}|{cell(y)}|" for row, y in list(shown)[: self.args.log_completions]]
            table = Text("\n".join(["|prompt|completion|", "|-|-|", *lines]))
            self.folder.log(self.source.steps, {"completions": table})
        return found

    @torch.no_grad()
    def generate(self, prompts: Sequence[str], seed: int | None = None) -> list[str]:
        """Completions; without a seed the likeliest symbols."""
        tokens, mask = pad_left([self.tokeniser.encode(text) for text in prompts], self.tokeniser.pad)
        length, generator = self.args.max_new_tokens, torch.Generator().manual_seed(seed or 0)
        uniform = None if seed is None else torch.rand(len(prompts), length, generator=generator).to(self.device)
        texts = generate(self.agent.readout("policy"), tokens.to(self.device), mask.to(self.device), uniform, length,
                         self.symbols)  # fmt: skip
        return texts_of(texts, self.tokeniser)

    def save_model(self, output_dir: str | Path | None = None) -> Path:
        """Weights and tokeniser as `from_pretrained` reads them (an adapter alone under PEFT), or a state dict."""
        folder = Path(self.args.output_dir) / "model" if output_dir is None else Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save = getattr(self.model, "save_pretrained", None)
        if save is not None:
            save(folder)
            if hasattr(self.processing_class, "save_pretrained"):
                self.processing_class.save_pretrained(folder)
        else:
            from safetensors.torch import save_file

            save_file({name: value.contiguous() for name, value in self.model.state_dict().items()},
                      folder / "model.safetensors")  # fmt: skip
        return folder


def copies_of(
    model: nn.Module, args: NashTrainerConfig, reference: nn.Module | None, peft_config: Any
) -> WholeCopies | AdapterCopies:
    """Whole models, or adapters where the model has them or shall get them."""
    if reference is model:
        raise ConfigError("ref_model is model: it would learn with the policy; give None, and a frozen copy is made")
    adapted = peft_config is not None or hasattr(model, "peft_config")
    if not adapted:
        return WholeCopies(model, copies_needed(args), reference)
    if reference is not None:
        raise ConfigError("with adapters the reference is the model without them; leave ref_model out, or merge them")
    if args.reset_reference_every:
        raise ConfigError("with adapters the reference cannot move; set reset_reference_every = 0, or tune all weights")
    return AdapterCopies(model, copies_needed(args), peft_config)


def checkpoint_activations(copies: WholeCopies | AdapterCopies) -> None:
    """Switch a Hugging Face model to computing its activations twice."""
    network = copies.network
    known = "gradient_checkpointing_enable"
    if not hasattr(network, known):
        raise ConfigError(f"gradient_checkpointing needs a model of Hugging Face, got a {type(network).__name__}")
    name = "activation_checkpointing_enable" if hasattr(network, "activation_checkpointing_enable") else known
    getattr(network, name)({"use_reentrant": False})


def cell(text: str) -> str:
    """A text within a Markdown table."""
    return text.replace("|", "&#124;").replace("\n", " ")


def check_run(args: NashTrainerConfig) -> None:
    """Raise unless the numbers of a run make sense."""
    least = {"max_steps": 1, "per_device_train_batch_size": 1, "max_prompt_length": 1, "logging_steps": 1,
             "eval_steps": 0, "save_steps": 0, "eval_rows": 1, "log_completions": 0}  # fmt: skip
    for name, bound in least.items():
        check_integer(name, getattr(args, name))
        if getattr(args, name) < bound:
            raise ConfigError(f"{name} must be at least {bound}, got {getattr(args, name)}")
