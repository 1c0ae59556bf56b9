"""Memory Gateway: an OpenAI-compatible proxy that gives any model a long-term memory."""

__version__ = "0.1.0"
