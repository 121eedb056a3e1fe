"""What holds where: every scenario at every pair of door and provider. Written by hand, never from what the code did.

Knows: the words of the house rules (section 6) and the sources of each exception. Must not know: how the gateway works.

    relay      the provider speaks the client's wire: request and answer pass byte for byte but for the model's name
    translate  everything the scenario means arrives
    lossy N    it arrives but for what note N says
    refuse N   the request gets a 4xx whose text note N gives
    absent N   it cannot be asked or cannot happen there, for the reason of note N

A row is a scenario; its cells are {/api/chat, /api/generate, /v1/chat/completions} x {an OpenAI-compatible provider,
Anthropic, Gemini, a real Ollama, the echo model}. A cell holds for the stream and for the whole answer.
"""

from __future__ import annotations

from dataclasses import dataclass

DOORS = ("chat", "generate", "v1")
PROVIDERS = ("openai", "anthropic", "gemini", "ollama", "echo")
WORDS = ("relay", "translate", "lossy", "refuse", "absent")

TABLE = """
                    | chat                                                       | generate                                                   | v1
                    | openai      anthropic   gemini      ollama      echo       | openai      anthropic   gemini      ollama      echo       | openai      anthropic   gemini      ollama      echo
text                | translate   translate   translate   relay       translate  | translate   translate   translate   relay       translate  | relay       translate   translate   translate   translate
system              | translate   translate   translate   relay       translate  | translate   translate   translate   relay       translate  | relay       translate   translate   translate   translate
multi-turn          | translate   translate   translate   relay       translate  | translate   translate   translate   relay       translate  | relay       translate   translate   translate   translate
emoji               | translate   translate   translate   relay       translate  | translate   translate   translate   relay       translate  | relay       translate   translate   translate   translate
image-data          | translate   translate   translate   relay       translate  | translate   translate   translate   relay       translate  | relay       translate   translate   translate   translate
image-url           | translate   translate   refuse 1    refuse 1    refuse 1   | translate   translate   refuse 1    refuse 1    refuse 1   | relay       translate   refuse 1    refuse 1    refuse 1
one-tool            | translate   translate   translate   relay       translate  | absent 2    absent 2    absent 2    absent 2    absent 2   | relay       translate   translate   translate   translate
parallel-tools      | translate   translate   translate   relay       absent 3   | absent 2    absent 2    absent 2    absent 2    absent 2   | relay       translate   translate   translate   absent 3
tool-no-arguments   | translate   translate   translate   relay       translate  | absent 2    absent 2    absent 2    absent 2    absent 2   | relay       translate   translate   translate   translate
result-by-id        | translate   translate   translate   relay       translate  | absent 2    absent 2    absent 2    absent 2    absent 2   | relay       translate   translate   translate   translate
result-by-name      | translate   translate   translate   relay       translate  | absent 2    absent 2    absent 2    absent 2    absent 2   | refuse 4    translate   translate   translate   translate
result-by-neither   | translate   translate   translate   relay       translate  | absent 2    absent 2    absent 2    absent 2    absent 2   | refuse 4    translate   translate   translate   translate
think-off           | translate   translate   lossy 14    relay       translate  | translate   translate   lossy 14    relay       translate  | relay       translate   lossy 14    translate   translate
think-on            | translate   translate   translate   relay       translate  | translate   translate   translate   relay       translate  | relay       translate   translate   translate   translate
think-level         | translate   translate   translate   relay       translate  | translate   translate   translate   relay       translate  | relay       translate   translate   translate   translate
thinking-with-tools | lossy 5     lossy 16    lossy 15    relay       translate  | absent 2    absent 2    absent 2    absent 2    absent 2   | relay       lossy 16    lossy 15    translate   translate
json                | translate   lossy 11    translate   relay       translate  | translate   lossy 11    translate   relay       translate  | relay       lossy 11    translate   translate   translate
schema              | translate   translate   translate   relay       translate  | translate   translate   translate   relay       translate  | relay       translate   translate   translate   translate
stop-text           | translate   translate   translate   relay       translate  | translate   translate   translate   relay       translate  | relay       translate   translate   translate   translate
length              | translate   translate   translate   relay       translate  | translate   translate   translate   relay       translate  | relay       translate   translate   translate   translate
refusal             | lossy 6     lossy 6     lossy 6     absent 7    absent 3   | lossy 6     lossy 6     lossy 6     absent 7    absent 3   | relay       lossy 13    lossy 13    absent 7    absent 3
logprobs            | translate   lossy 12    translate   relay       translate  | translate   lossy 12    translate   relay       translate  | relay       lossy 12    translate   translate   translate
cached-usage        | lossy 8     lossy 8     lossy 8     absent 9    absent 3   | lossy 8     lossy 8     lossy 8     absent 9    absent 3   | relay       translate   translate   absent 9    absent 3
no-usage            | translate   translate   translate   relay       absent 3   | translate   translate   translate   relay       absent 3   | relay       translate   translate   translate   absent 3
empty               | translate   translate   translate   relay       absent 3   | translate   translate   translate   relay       absent 3   | relay       translate   translate   translate   absent 3
status-400          | translate   translate   translate   translate   absent 10  | translate   translate   translate   translate   absent 10  | translate   translate   translate   translate   absent 10
status-401          | translate   translate   translate   translate   absent 10  | translate   translate   translate   translate   absent 10  | translate   translate   translate   translate   absent 10
status-403          | translate   translate   translate   translate   absent 10  | translate   translate   translate   translate   absent 10  | translate   translate   translate   translate   absent 10
status-404          | translate   translate   translate   translate   absent 10  | translate   translate   translate   translate   absent 10  | translate   translate   translate   translate   absent 10
status-429          | translate   translate   translate   translate   absent 10  | translate   translate   translate   translate   absent 10  | translate   translate   translate   translate   absent 10
status-500          | translate   translate   translate   translate   absent 10  | translate   translate   translate   translate   absent 10  | translate   translate   translate   translate   absent 10
status-529          | translate   translate   translate   translate   absent 10  | translate   translate   translate   translate   absent 10  | translate   translate   translate   translate   absent 10
error-midway        | translate   translate   translate   translate   absent 10  | translate   translate   translate   translate   absent 10  | translate   translate   translate   translate   absent 10
cut-midway          | translate   translate   translate   translate   absent 10  | translate   translate   translate   translate   absent 10  | translate   translate   translate   translate   absent 10
stall               | translate   translate   translate   translate   absent 10  | translate   translate   translate   translate   absent 10  | translate   translate   translate   translate   absent 10
"""


@dataclass(frozen=True)
class Note:
    """`what`: what is lost, the text of the refusal, or why it is absent. `source`: who says so."""

    what: str
    source: str


NOTES = {
    1: Note(
        "not a public address", "Ollama fetches no pictures: the gateway does, never from inside (house.md 2, fetch.py)"
    ),
    2: Note("generate knows no tools and no messages", "ollama-protocol.md 2.3"),
    3: Note("the echo model gives back what it was sent; it has no other answer", "product.md 2, echo"),
    4: Note("tool_calls", "relayed as sent: OpenAI's wire wants an id on every call and result (OpenAI's own 400)"),
    5: Note("thoughts of earlier turns", "OpenAI's wire has no field for them (providers.md 3.1, thinking in history)"),
    6: Note("that the text is a refusal", "Ollama's wire has one text field (providers.md 3.5, delta.refusal)"),
    7: Note("Ollama's wire knows no refusals", "ollama-protocol.md 2.4"),
    8: Note("how many prompt tokens were cached", "Ollama's wire has two counts (ollama-protocol.md 2.4)"),
    9: Note("a real Ollama reports no cached tokens", "ollama-protocol.md 2.4"),
    10: Note("the echo model has no failures", "product.md 2, echo"),
    11: Note("that it is held to JSON", "Claude has no JSON mode: it is asked for in words (providers.md 2.4, 3.1)"),
    12: Note("log probabilities", "Claude tells none (providers.md 3.1)"),
    13: Note("that the text is a refusal", "the reason says so, the text is text (providers.md 3.5, stop reasons)"),
    14: Note("that it shall not think", "Gemini 3 and later cannot be switched off (providers.md 2.6)"),
    16: Note("thoughts of earlier turns", "Claude takes back signed thoughts alone (providers.md 2.4, 3.1)"),
    15: Note("thoughts of earlier turns", "Gemini takes back signed calls, no bare thoughts (providers.md 3.1)"),
}


@dataclass(frozen=True)
class Cell:
    """`word` is one of WORDS; `note` is there for all but relay and translate."""

    word: str
    note: Note | None = None


def read_table(text: str = TABLE) -> dict[tuple[str, str, str], Cell]:
    """(door, provider, scenario) -> cell. Raises ValueError for a malformed row or a cell without its reason."""
    cells: dict[tuple[str, str, str], Cell] = {}
    for row in text.strip().splitlines()[2:]:
        scenario, *groups = (part.strip() for part in row.split("|"))
        if len(groups) != len(DOORS):
            raise ValueError(f"{scenario}: {len(groups)} doors")
        for door, group in zip(DOORS, groups, strict=True):
            for provider, cell in zip(PROVIDERS, read_cells(scenario, group), strict=True):
                if (door, provider, scenario) in cells:
                    raise ValueError(f"{scenario} stands twice")
                cells[door, provider, scenario] = cell
    return cells


def read_cells(scenario: str, group: str) -> list[Cell]:
    cells: list[Cell] = []
    words = group.split()
    while words:
        word = words.pop(0)
        if word not in WORDS:
            raise ValueError(f"{scenario}: unknown word {word!r}")
        if word in ("relay", "translate"):
            cells.append(Cell(word))
            continue
        number = words.pop(0) if words and words[0].isdigit() else None
        note = NOTES.get(int(number)) if number else None
        if note is None or not note.what or not note.source:
            raise ValueError(f"{scenario}: '{word}' without a reason")
        cells.append(Cell(word, note))
    return cells


SUPPORT = read_table()
