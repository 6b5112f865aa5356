"""LLaMA-Factory's own training function: as it comes (`llamafactory`) and with the best of its settings (`-tuned`).

It takes the weights in the precision in which they lie on the disk, so the tuned lane hands it a copy in bf16; its
`pure_bf16` refuses a CPU. Its packing to blocks needs masks of all tokens by all tokens, and changes the batches.
"""

from __future__ import annotations

import importlib.machinery
import json
import sys
import types
from pathlib import Path
from typing import Any

# It imports torchaudio, of which no build fits a torch for the CPU, and uses it for rows with sound alone.
silent = types.ModuleType("torchaudio")
silent.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
sys.modules.setdefault("torchaudio", silent)

import torch  # noqa: E402
from llamafactory.train.sft.trainer import CustomSeq2SeqTrainer  # noqa: E402
from llamafactory.train.tuner import run_exp  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402
from watch import Watch, use_threads  # noqa: E402


def rows_for_it(train: Path, folder: Path) -> None:
    """The same rows in its own format, with the list of data sets that it wants."""
    rows = []
    for line in train.read_text(encoding="utf-8").splitlines():
        content = json.loads(line)
        asked, said = content["prompt"][0]["content"], content["completion"][0]["content"]
        rows.append({"instruction": asked, "input": "", "output": said})
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    (folder / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.json"}}), encoding="utf-8")


def in_bf16(model: str, folder: Path) -> str:
    """A copy of the model in bf16."""
    AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return str(folder)


def main(job: dict[str, Any]) -> None:
    use_threads(job)
    folder, tuned = Path(job["folder"]), job["lane"] == "llamafactory-tuned"
    rows_for_it(Path(job["train"]), folder)
    better = {"disable_gradient_checkpointing": True, "train_sampling_strategy": "group_by_length"} if tuned else {}
    watch = Watch(AutoTokenizer.from_pretrained(job["model"]).pad_token_id)
    watch.look_at(CustomSeq2SeqTrainer)
    run_exp(
        {
            "stage": "sft", "do_train": True, "finetuning_type": "lora", "lora_target": "all", "lora_rank": job["rank"],
            "lora_alpha": 2 * job["rank"], "model_name_or_path": in_bf16(job["model"], folder / "bf16") if tuned else job["model"],
            "dataset_dir": str(folder), "dataset": "rows", "cutoff_len": 1024, "cache_dir": job["cache"], "output_dir": job["output"],
            "per_device_train_batch_size": job["batch"], "num_train_epochs": 1, "learning_rate": job["rate"],
            "report_to": "none", "seed": job["seed"], "save_strategy": "no", "use_cpu": not torch.cuda.is_available(), **better,
        },
        callbacks=[watch],
    )  # fmt: skip
    print(json.dumps({"adapter": job["output"], **watch.told()}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
