"""Models of the hub: a script for an interpreter with huggingface_hub.

    python -I hub_files.py commit NAME REVISION     prints the commit that the revision stands for
    python -I hub_files.py fetch NAME COMMIT        brings its files into the shared cache

Cache, address, token and being offline are as `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN` and
`HF_HUB_OFFLINE` say. What cannot be done ends it with one line on standard error and status 3.
"""

from __future__ import annotations

import sys
from pathlib import Path

REFUSED = 3
WANTED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.py", "README.md")
UNWANTED = ("consolidated*", "original/*", "onnx/*", "openvino/*", "metal/*", "gguf/*")


def main(arguments: list[str]) -> int:
    """Do one of the two; returns the exit status."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        what, name, revision = arguments
        if what == "fetch":
            snapshot_download(name, revision=revision, allow_patterns=WANTED, ignore_patterns=UNWANTED)
            return 0
        try:
            print(HfApi().model_info(name, revision=revision).sha)
        except (GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError):
            raise
        except Exception:  # unreachable, or told to stay offline: what is in the cache will do
            print(Path(snapshot_download(name, revision=revision, local_files_only=True)).name)
    except GatedRepoError:
        return _refuse(f"{name} is open only to those who have asked for it")
    except RepositoryNotFoundError:
        return _refuse(f"there is no {name} that this machine's token may see")
    except LocalEntryNotFoundError:
        return _refuse(f"{name} at {revision} is not in the cache, and the hub is out of reach or not to be asked")
    except RevisionNotFoundError:
        return _refuse(f"{name} has no revision {revision}")
    except Exception as error:  # the hub's library raises a dozen kinds; each is a line for the person
        return _refuse(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)
    return 0


def _refuse(reason: str) -> int:
    print(reason, file=sys.stderr)
    return REFUSED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
