"""From a lock to a finished generation: installed step by step, verified, proved, committed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from env_manager.build import Build, proving
from env_manager.build_steps import StepRunner
from env_manager.fetching.large import LargeWheels
from env_manager.fetching.wheels import WheelSize
from env_manager.generations import Generation
from env_manager.planning.interpreter import Interpreter
from env_manager.planning.plan import Plan
from env_manager.planning.resolve import Lock, index_arguments, split_by_step
from env_manager.proving.before_run import remember
from env_manager.proving.proof import NO_PROOF, Proof


def assemble(
    build: Build,
    interpreter: Interpreter,
    plan: Plan,
    lock: Lock,
    *,
    sizes: Mapping[str, WheelSize],
    large: LargeWheels,
    proof: Proof = NO_PROOF,
    share_bytecode: bool = True,
    **recorded: Any,
) -> Generation:
    """Install a lock into the empty environment of a build and commit it; `recorded` goes into its record.

    Findings of an earlier `proof` count in place of probes.
    """
    build.phase("install", "Installing, step by step")
    steps = StepRunner(
        uv=build.uv,
        python=build.python,
        folder=build.folder,
        report=build.report,
        sizes=sizes,
        large=large,
        index_arguments=index_arguments(plan),
        environ=plan.torch.environ(),
        before_probe=build.shared_bytecode(lock).share if share_bytecode else lambda: None,
        proved=proof.checks,
        refuse_torn=lambda: build.require_whole(lock),
    )
    rows = steps.run_all(split_by_step(plan, lock))

    build.phase("verify", "Checking every installed file")
    build.require_whole(lock)
    build.phase("prove", "Proving the finished environment")
    checks = proof.checks or tuple(build.prove(plan, lock))

    build.phase("commit", "Making the new environment durable")
    generation = build.commit(
        packages=lock.versions,
        plan=plan.as_json(),
        overrides=dict(plan.overrides),
        lock_sha256=lock.sha256,
        interpreter=interpreter.as_json(),
        steps=tuple(rows),
        checks=tuple(check.as_json() for check in checks),
        probes=proving(plan, lock),
        proof=proof.key,
        proved_by=proof.source,
        **recorded,
    )
    remember(generation, checks)
    return generation
