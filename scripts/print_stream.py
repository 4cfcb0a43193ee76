"""Reads the event stream of a chat completion on standard input and prints its text as it comes.

Times count from the moment (seconds since 1970) given as the argument, when the request was sent. Ends with a line of figures on standard error. Exit status 1, and the reason in one line, when the stream holds
an error, breaks off or brings no text.
"""
import json
import sys
import time


def main():
    start = float(sys.argv[1]) if len(sys.argv) > 1 else time.time()
    first = None
    tokens = 0
    done = False
    for line in sys.stdin:
        if not line.startswith("data:"):
            if line.lstrip().startswith("{"):  # an error document instead of a stream
                return f"the server answered {line.strip()}"
            continue
        data = line[len("data:"):].strip()
        if data == "[DONE]":
            done = True
            continue
        chunk = json.loads(data)
        if "error" in chunk:
            return f"the server answered {data}"
        for choice in chunk.get("choices", []):
            text = choice.get("delta", {}).get("content") or ""
            if text and first is None:
                first = time.time() - start
            print(text, end="", flush=True)
        tokens = (chunk.get("usage") or {}).get("completion_tokens", tokens)
    print()
    if first is None or not done:
        return "the stream broke off" if first is not None else "the stream brought no text"
    seconds = time.time() - start
    print(f"    ({tokens} tokens in {seconds:.2f} s, the first after {first:.2f} s)", file=sys.stderr)
    return None


if __name__ == "__main__":
    sys.exit(main())
