"""One question to an OpenAI-compatible endpoint, asked with the official `openai` client and streamed to the terminal.

Owns: the conversation. Must not know: Kubernetes. Runs in `.venv`.

    python3 -m tools.chat http://127.0.0.1:8080/v1 assistant "What is a Pod?"
"""

from __future__ import annotations

import sys
import time

from openai import OpenAI, OpenAIError


def ask(base_url: str, model: str, question: str, max_tokens: int = 64) -> str:
    """Stream one greedy answer to standard output; returns it whole."""
    client = OpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=120)
    started, first, parts = time.monotonic(), None, []
    stream = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        max_tokens=max_tokens,
        temperature=0,
        stream=True,
    )
    for chunk in stream:
        if chunk.choices and (text := chunk.choices[0].delta.content):
            first = first or time.monotonic()
            parts.append(text)
            print(text, end="", flush=True)
    seconds = time.monotonic() - started
    waited = (first or time.monotonic()) - started
    print(f"\n  ({len(parts)} chunks in {seconds:.1f} s, the first after {1000 * waited:.0f} ms)", flush=True)
    return "".join(parts)


def main(base_url: str, model: str, question: str) -> int | str:
    """The exit status, or what to say with status 1."""
    try:
        return 0 if ask(base_url, model, question).strip() else "the answer was empty"
    except OpenAIError as error:
        return f"{base_url} did not answer: {error}"
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
