"""Everything a run is: one model for the form, the file, the command line, the API and the record.

Imports pydantic only; the app uses it without torch.
"""

from trainer.spec.data import Data
from trainer.spec.evaluation import Evaluation
from trainer.spec.lora import Lora
from trainer.spec.optimizer import Optimizer
from trainer.spec.run import RunSpec
from trainer.spec.training import Training

__all__ = ["Data", "Evaluation", "Lora", "Optimizer", "RunSpec", "Training"]
