"""Before anything is sampled with tools: does the sandbox work, and can the chat template write what a tool says?"""

from __future__ import annotations

from redi_ray.cluster.runtime import user_error
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.tools import ToolSettings
from redi_ray.data.sample.samples import TASK_CPUS
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.text.turns import require_turns
from redi_ray.tools.sandbox import check_sandbox


def check_tools(
    tools: ToolSettings, prompt: PromptSettings, model: str | None, trust_remote_code: bool = False
) -> None:
    """Raise SandboxError where no sandbox can be made on a node of Ray's, RoleError or PromptError where the template of `model`
    has no turns for what a tool says. model: null where another server renders the chat."""
    import ray

    if model is not None:
        require_turns(load_tokenizer(model, trust_remote_code), prompt)
    try:
        ray.get(ray.remote(num_cpus=TASK_CPUS, max_retries=0)(check_sandbox).remote(tools.sandbox))
    except ray.exceptions.RayTaskError as error:
        if (told := user_error(error)) is not None:
            raise told from None
        raise
