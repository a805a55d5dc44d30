"""One question to an OpenAI-compatible endpoint, asked with the official `openai` client and streamed to the terminal.

Owns: the conversation. Must not know: Kubernetes. Runs in `.venv`.

    python3 -m tools.chat http://127.0.0.1:8080/v1 assistant "What is a Pod?"
"""

from __future__ import annotations

import sys
import time

from openai import OpenAI


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


if __name__ == "__main__":
    sys.exit(0 if ask(sys.argv[1], sys.argv[2], sys.argv[3]).strip() else "the answer was empty")
