"""The trainer on the own transformer and on models of Hugging Face, whole and with adapters."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from rlcore.agents.nash.language import CallableJudge, NashTrainer, NashTrainerConfig, RewardJudge
from rlcore.data.texts import Vocabulary
from rlcore.errors import CheckpointError, ConfigError, DataError
from rlcore.interop.adapters import AdapterCopies
from rlcore.nn.generation import token_logits
from rlcore.nn.transformer import Transformer, TransformerConfig
from rlcore.training.trainer import Tick

WORDS = Vocabulary("abc")
PROMPTS = ["a", "bc", "cab", "b"]
KINDS = ("transformer", "gpt2", "llama", "gpt2 + lora", "llama + lora")


def model_of(kind: str, seed: int = 0) -> Any:
    if kind == "transformer":
        sizes = TransformerConfig(len(WORDS), width=16, layers=1, heads=2)
        return Transformer(sizes, generator=torch.Generator().manual_seed(seed))
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    ids = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0, "vocab_size": len(WORDS)}
    if kind.startswith("gpt2"):
        config = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=32, initializer_range=0.2, **ids)
    else:
        config = transformers.LlamaConfig(
            hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
            max_position_embeddings=32, initializer_range=0.2, **ids,
        )  # fmt: skip
    return transformers.AutoModelForCausalLM.from_config(config)


def lora(kind: str) -> Any:
    if "lora" not in kind:
        return None
    peft = pytest.importorskip("peft")
    layers = ["c_attn"] if kind.startswith("gpt2") else ["q_proj", "v_proj"]
    return peft.LoraConfig(r=2, lora_alpha=4, target_modules=layers, task_type="CAUSAL_LM",
                           fan_in_fan_out=kind.startswith("gpt2"))  # fmt: skip


def likes_a(prompts: list[str], completions: list[str]) -> list[float]:
    return [4.0 * y.count("a") / max(len(y), 1) for y in completions]


def trainer_of(kind: str, folder: Path, **settings: Any) -> NashTrainer:
    chosen = {"max_steps": 6, "half_steps": 2, "full_steps": 1, "per_device_train_batch_size": 4, "max_new_tokens": 4,
              "learning_rate": 2e-2, "logging_steps": 1, "save_steps": 2, "output_dir": str(folder)}  # fmt: skip
    extras = {name: settings.pop(name) for name in ("callbacks", "judge", "train_dataset") if name in settings}
    given = {"judge": RewardJudge(likes_a), "train_dataset": PROMPTS} | extras
    return NashTrainer(model_of(kind), NashTrainerConfig(**(chosen | settings)), processing_class=WORDS,
                       peft_config=lora(kind), **given)  # fmt: skip


def weights(trainer: NashTrainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.agent.state_dict().items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_stopped_goes_on_bit_for_bit(kind: str, tmp_path: Path) -> None:
    """Stopped after 4 of 6 updates, in the middle of a half step, with a checkpoint at 4."""

    def stop(tick: Tick) -> None:
        if tick.iteration == 5:
            raise KeyboardInterrupt

    whole = trainer_of(kind, tmp_path / "whole")
    result = whole.train()
    assert all(math.isfinite(value) for value in result.values())
    with pytest.raises(KeyboardInterrupt):
        trainer_of(kind, tmp_path / "part", callbacks=[stop]).train()
    again = trainer_of(kind, tmp_path / "part")
    assert again.train(resume_from_checkpoint=True) == result
    other = weights(again)
    for name, value in weights(whole).items():
        assert torch.equal(value, other[name]), name
    assert {"eval/kl", "nash/win_vs_reference", "nash/win_vs_anchor", "nash/exploitability_lower_bound", "loss/kl",
            "rewards/probabilities", "judge/invalid", "judge/asymmetry", "judge/queries", "nash/prox_residual",
            "objective/entropy", "val/policy_contain_eos_token"} <= set(result)  # fmt: skip
    assert list((tmp_path / "whole").glob("events.out.tfevents.*"))
    assert json.loads((tmp_path / "whole" / "config.json").read_text())["config"]["beta"] == 0.1


@pytest.mark.parametrize("kind", ["transformer", "gpt2", "llama + lora"])
def test_it_learns_what_the_judge_likes(kind: str, tmp_path: Path) -> None:
    trainer = trainer_of(kind, tmp_path, max_steps=60, half_steps=5, full_steps=5, per_device_train_batch_size=32,
                         eval_rows=4, learning_rate=3e-2)  # fmt: skip
    trainer.train()
    asked = PROMPTS * 25
    rewards = likes_a(asked, trainer.generate(asked, seed=1))
    trainer.agent.copies.model("policy")
    begun = trainer_of(kind, tmp_path / "start").generate(asked, seed=1)
    assert sum(rewards) / len(rewards) > sum(likes_a(asked, begun)) / len(begun) + 0.5


@pytest.mark.parametrize("kind", ["gpt2 + lora", "llama + lora"])
def test_the_reference_is_the_model_without_its_adapter(kind: str, tmp_path: Path) -> None:
    """A trained adapter changes the policy and not the reference, and the copies are those of their times."""
    plain = model_of(kind)
    trainer = trainer_of(kind, tmp_path, max_steps=5)
    trainer.train()
    copies = trainer.agent.copies
    assert isinstance(copies, AdapterCopies)
    batch = trainer.source.next(trainer.agent).candidates
    with torch.no_grad():
        logits = {name: token_logits(copies.model(name), batch) for name in ("policy", "reference", "anchor", "rival")}
        mask = torch.cat([batch.prompt_mask, batch.mask[:, :-1]], 1)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        tokens = torch.cat([batch.prompt, batch.tokens[:, :-1]], 1)
        known = plain.eval()(input_ids=tokens, attention_mask=mask.long(), position_ids=positions).logits
    real = batch.mask
    torch.testing.assert_close(logits["reference"][real], known[:, batch.prompt.shape[1] - 1 :][real])
    for first, second in (("policy", "reference"), ("policy", "anchor"), ("rival", "anchor"), ("rival", "reference")):
        assert float((logits[first] - logits[second])[real].abs().max()) > 1e-4, (first, second)
    own = trainer.agent.state_dict()
    assert 0 < len([name for name in own if "lora" in name]) == len(own) - 2, "adapters and two counters alone"


def test_a_saved_model_is_read_by_its_library(tmp_path: Path) -> None:
    trainer = trainer_of("gpt2", tmp_path, max_steps=1)
    trainer.train()
    transformers = pytest.importorskip("transformers")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_activations_computed_twice_give_the_same_gradients(tmp_path: Path) -> None:
    plain, twice = (trainer_of("llama", tmp_path / str(k), gradient_checkpointing=k) for k in (False, True))
    for trainer in (plain, twice):
        trainer.agent.learn(trainer.source, 2)
    for name, value in weights(plain).items():
        torch.testing.assert_close(value, weights(twice)[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["transformer", "llama"])
def test_half_precision_runs(kind: str, tmp_path: Path) -> None:
    result = trainer_of(kind, tmp_path, bf16=True, max_steps=2).train()
    assert all(math.isfinite(value) for value in result.values())


def test_settings_are_read_by_their_parser(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    parser = transformers.HfArgumentParser(NashTrainerConfig)
    (found,) = parser.parse_args_into_dataclasses(["--beta", "0.2", "--method", "nash_md", "--loss", "gradient"])
    assert (found.beta, found.method, found.learning_rate) == (0.2, "nash_md", 5e-7)


def test_it_works_without_trl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    trainer_of("transformer", tmp_path, max_steps=1).train()


def test_conversations_go_through_the_template(tmp_path: Path) -> None:
    class Chatty(Vocabulary):
        def apply_chat_template(
            self, messages: list[dict[str, str]], tokenize: bool, add_generation_prompt: bool
        ) -> str:
            assert add_generation_prompt
            assert not tokenize
            return "c" + "".join(m["content"] for m in messages)

    args = NashTrainerConfig(max_steps=1, max_new_tokens=3, output_dir=str(tmp_path), max_prompt_length=2)
    rows = [{"prompt": [{"role": "user", "content": "ab"}]}, {"prompt": "b"}]
    trainer = NashTrainer(model_of("transformer"), args, judge=RewardJudge(likes_a), train_dataset=rows,
                          processing_class=Chatty("abc"))  # fmt: skip
    assert [row["prompt"] for row in trainer.prompts.rows] == ["cab", "b"]
    _, tokens, mask = trainer.prompts.take([0, 1])
    assert tokens.tolist() == [[2, 3], [0, 3]]
    assert mask.tolist() == [[True, True], [False, True]]


def test_mistakes_end_in_one_line(tmp_path: Path) -> None:
    model = model_of("transformer")
    args = NashTrainerConfig(output_dir=str(tmp_path / "run"), max_steps=1, max_new_tokens=2)
    common: dict[str, Any] = {"judge": RewardJudge(likes_a), "train_dataset": PROMPTS, "processing_class": WORDS}
    with pytest.raises(ConfigError, match="ref_model is model"):
        NashTrainer(model, args, ref_model=model, **common)
    with pytest.raises(ConfigError, match="max_steps must be at least 1"):
        NashTrainer(model, NashTrainerConfig(max_steps=0), **common)
    with pytest.raises(ConfigError, match="beta must be positive"):
        NashTrainer(model, NashTrainerConfig(beta=-1.0), **common)
    with pytest.raises(DataError, match="no column 'prompt', only"):
        NashTrainer(model, args, **(common | {"train_dataset": [{"text": "a"}]}))
    with pytest.raises(ConfigError, match="no parameter that learns"):
        NashTrainer(model_of("transformer").requires_grad_(False), args, **common)
    with pytest.raises(ConfigError, match="needs a model of Hugging Face"):
        NashTrainer(model, NashTrainerConfig(gradient_checkpointing=True), **common)
    with pytest.raises(CheckpointError, match="no run to resume"):
        NashTrainer(model, args, **common).train(resume_from_checkpoint=True)
    with pytest.raises(DataError, match="CallableJudge raised on a batch"):
        NashTrainer(model, args, **(common | {"judge": CallableJudge(lambda *_: 1 / 0)})).train()


def test_mistakes_with_adapters_end_in_one_line(tmp_path: Path) -> None:
    args = NashTrainerConfig(output_dir=str(tmp_path), max_steps=1)
    common: dict[str, Any] = {"judge": RewardJudge(likes_a), "train_dataset": PROMPTS, "processing_class": WORDS,
                              "peft_config": lora("gpt2 + lora")}  # fmt: skip
    with pytest.raises(ConfigError, match="leave ref_model out"):
        NashTrainer(model_of("gpt2"), args, ref_model=model_of("gpt2", 1), **common)
    with pytest.raises(ConfigError, match="reference cannot move"):
        NashTrainer(model_of("gpt2"), NashTrainerConfig(reset_reference_every=5), **common)
