"""Estimates the worth of a text as a memory from its form alone: personal statements against tasks and the generic
answers to them. Pure.

Logistic regression over the features of the form, fitted to texts of the project's corpus that answer questions about
their user against all others.
"""

import math

from gateway.text.form import FEATURES, Form
from gateway.text.policy import POLICY

__all__ = ["TASK_WORTH", "estimate_worth", "worth_inputs"]

_USUAL_TOKENS = 30  # the length at which length says nothing
_LOWEST, _HIGHEST = -4.0, 3.0
TASK_WORTH = -1.0
"""Worth below which a message is a task, or the generic answer to one."""


def worth_inputs(form: Form, tokens: int, *, is_from_user: bool) -> dict[str, float]:
    """The inputs of the regression, by name."""
    return {name: getattr(form, name) for name in FEATURES} | {
        "from_user": float(is_from_user),
        "length": math.log(max(tokens, 1) / _USUAL_TOKENS),
        "orders_only": float(form.orders > 0 and not form.has_self),
        "asks_only": float(form.asks == 1 and not form.has_self),
        "user_tells": form.tells * is_from_user,
        "user_self": form.has_self * is_from_user,
    }


def estimate_worth(form: Form, tokens: int, *, is_from_user: bool) -> float:
    """Log-odds that a text is worth recalling without an explicit question for it; 0 is even."""
    inputs = worth_inputs(form, tokens, is_from_user=is_from_user)
    weights = POLICY.worth.weights
    total = POLICY.worth.bias + sum(weights.get(name, 0.0) * value for name, value in inputs.items())
    return min(_HIGHEST, max(_LOWEST, total))
