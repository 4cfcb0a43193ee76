"""Our own check for `schemathesis run` (SCHEMATHESIS_HOOKS): why valid data may be refused.

Instead of its positive_data_acceptance, which forbids every 400. JSON Schema says type, range and length of a
field; what it cannot say, or not so that data can be drawn from it, is listed here, and nothing else may be
the reason of a refusal.
"""
import re

import schemathesis

STATED_ELSEWHERE = {
    "context_length_exceeded": r"maximum context length is \d+ tokens",
    "kv_cache_too_small": r"^The KV cache has room for \d+ tokens ",
    "invalid_json": r"NUL byte in object key not supported|too big (negative )?integer|nests deeper than \d+ levels",
    "unsupported_parameter": r"^echo with logprobs is not supported with (stages|branching)$",
    "invalid_value": "|".join([
        r'^max(_completion)?_tokens must be at least 1; 0 is allowed only with "echo": true$',
        r"^min_tokens must be at most max_tokens \(",
        r'^stream_options is allowed only with "stream": true$',
        r'^continue_final_message needs "add_generation_prompt": false$',
        r'^top_logprobs is allowed only with "logprobs": true$',
        r"^logit_bias names token '\d+'; token ids of this model are 0 to \d+$",
        r"^(stages\[\d+\]\.)?stop(\[\d+\])? is \d+ bytes long; 1 to \d+ are allowed$",
        r"log probabilities each are asked for; at most \d+ in all are allowed",
        r"^\d+ prompts with n = \d+ are \d+ sequences; at most \d+ are allowed$",
        r"^stages may make \d+ sequences ",
        r"^stages\[\d+\]\.\S*max_tokens is required",
        r"^stages\[\d+\]\.branches\.from: an outline is read from the serial stage just before",
        r"^(n must be 1|min_tokens must be 0|prompt must be one prompt) with (stages|branching), not \d+$",
        r"^give stages or branching, not both$",
        r"^branching\.grammar\.\w+ ('.*' contains branching\.grammar|has \d+ bytes; 1 to)",
    ]),
}


@schemathesis.check
def refused_for_a_stated_reason(ctx, response, case):
    if response.status_code != 400 or not case.meta or not case.meta.generation.mode.is_positive:
        return
    error = response.json()["error"]
    reason = STATED_ELSEWHERE.get(error["code"])
    assert reason and re.search(reason, error["message"]), f"valid data was refused: {error}"
