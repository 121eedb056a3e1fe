"""What holds where: every scenario at every pair of door and provider. Written by hand, never from what the code did.

Knows: the words of the house rules (section 6) and the sources of each exception. Must not know: how the gateway works.

    relay      the provider speaks the client's wire: request and answer pass byte for byte but for the model's name
    translate  everything the scenario means arrives
    lossy N    it arrives but for what note N says
    refuse N   the request gets a 4xx whose text note N gives
    absent N   it cannot be asked or cannot happen there, for the reason of note N

One table a door; a row is a scenario, a column a kind of provider. A cell holds for the stream and for the whole
answer. test_matrix asks each of them; docs/support.md shows them to users (`make docs`).
"""

from __future__ import annotations

from dataclasses import dataclass

WORDS = ("relay", "translate", "lossy", "refuse", "absent")
DOORS = {"chat": "/api/chat", "generate": "/api/generate", "v1": "/v1/chat/completions"}

# Kinds of provider that differ in what they can be told or can tell, and what stands for them in docs/support.md.
PROVIDERS = {
    "openai": "OpenAI's Chat Completions: OpenAI, Azure, every compatible service and server",
    "responses": "OpenAI's Responses API, where a model or a request needs it, or `api: responses` asks for it",
    "huggingface": "Hugging Face's router and dedicated endpoints",
    "anthropic": "Anthropic's Messages API",
    "gemini": "Google's Gemini API",
    "ollama": "a real Ollama, Ollama's cloud, OllamaFreeAPI",
    "echo": "the built-in echo model",
}

# What each row means, for whoever reads the tables without the tests.
SCENARIOS = {
    "text": "a question, a plain answer",
    "system": "a system prompt",
    "multi-turn": "earlier turns of the conversation",
    "emoji": "characters of several bytes, line separators among them, split anywhere by the network",
    "image-data": "a picture in the request",
    "image-url": "a picture by its address, on a private network",
    "one-tool": "a tool is offered and called, its arguments in pieces",
    "parallel-tools": "two calls in one answer, their pieces mixed",
    "tool-no-arguments": "a call without arguments",
    "result-by-id": "results of two calls, in another order, told apart by id",
    "result-by-name": "the same, by the tool's name, without ids",
    "result-by-neither": "the same with neither: told apart by their order",
    "think-off": "thinking switched off",
    "think-on": "thinking switched on; thoughts apart from the answer",
    "think-level": "thinking at a level",
    "thinking-with-tools": "a thought, a call, its result, in two turns: the model gets its own thought back",
    "foreign-thoughts": "the same, where the thought was another model's",
    "json": "any JSON object as the answer",
    "schema": "an answer that fits a JSON schema",
    "stop-text": "the answer ends before a stop string",
    "length": "a limit of 3 tokens, and its finish reason",
    "refusal": "the model refuses in words of its own",
    "logprobs": "log probabilities with two alternatives",
    "cached-usage": "token counts, some of the prompt cached",
    "no-usage": "the provider tells no token counts: estimated",
    "empty": "an answer without a word",
    "status-400": "the provider refuses the request: its words",
    "status-401": "the provider refuses our key: a 502 that names the provider",
    "status-403": "the provider forbids it: likewise",
    "status-404": "the provider does not have the model: Ollama's words for it",
    "status-429": "too many requests: its words, and when to try again",
    "status-500": "the provider broke: a 502 with its words",
    "status-529": "the provider is overloaded: a 503",
    "error-midway": "an error in the middle of the answer is told, the answer never looks complete",
    "cut-midway": "the connection breaks in the middle: likewise",
    "stall": "silence in the middle: likewise, after the time that is allowed",
}

TABLES = {
    "chat": """
                    | openai      responses   huggingface anthropic   gemini      ollama      echo
text                | translate   translate   translate   translate   translate   relay       translate
system              | translate   translate   translate   translate   translate   relay       translate
multi-turn          | translate   translate   translate   translate   translate   relay       translate
emoji               | translate   translate   translate   translate   translate   relay       translate
image-data          | translate   translate   translate   translate   translate   relay       translate
image-url           | translate   translate   translate   translate   refuse 1    refuse 1    refuse 1
one-tool            | translate   translate   translate   translate   translate   relay       translate
parallel-tools      | translate   translate   translate   translate   translate   relay       absent 3
tool-no-arguments   | translate   translate   translate   translate   translate   relay       translate
result-by-id        | translate   translate   translate   translate   translate   relay       translate
result-by-name      | translate   translate   translate   translate   translate   relay       translate
result-by-neither   | translate   translate   translate   translate   translate   relay       translate
think-off           | translate   translate   translate   translate   lossy 14    relay       translate
think-on            | translate   translate   translate   translate   translate   relay       translate
think-level         | translate   translate   translate   translate   translate   relay       translate
thinking-with-tools | lossy 5     translate   lossy 5     translate   translate   relay       translate
foreign-thoughts    | lossy 5     lossy 17    lossy 5     lossy 16    lossy 15    relay       translate
json                | translate   translate   translate   lossy 11    translate   relay       translate
schema              | translate   translate   translate   translate   translate   relay       translate
stop-text           | translate   translate   translate   translate   translate   relay       translate
length              | translate   lossy 18    translate   translate   translate   relay       translate
refusal             | lossy 6     lossy 6     lossy 6     lossy 6     lossy 6     absent 7    absent 3
logprobs            | translate   translate   translate   lossy 12    translate   relay       translate
cached-usage        | lossy 8     lossy 8     lossy 8     lossy 8     lossy 8     absent 9    absent 3
no-usage            | translate   translate   translate   translate   translate   relay       absent 3
empty               | translate   translate   translate   translate   translate   relay       absent 3
status-400          | translate   translate   translate   translate   translate   translate   absent 10
status-401          | translate   translate   translate   translate   translate   translate   absent 10
status-403          | translate   translate   translate   translate   translate   translate   absent 10
status-404          | translate   translate   translate   translate   translate   translate   absent 10
status-429          | translate   translate   translate   translate   translate   translate   absent 10
status-500          | translate   translate   translate   translate   translate   translate   absent 10
status-529          | translate   translate   translate   translate   translate   translate   absent 10
error-midway        | translate   translate   translate   translate   translate   translate   absent 10
cut-midway          | translate   translate   translate   translate   translate   translate   absent 10
stall               | translate   translate   translate   translate   translate   translate   absent 10
""",
    "generate": """
                    | openai      responses   huggingface anthropic   gemini      ollama      echo
text                | translate   translate   translate   translate   translate   relay       translate
system              | translate   translate   translate   translate   translate   relay       translate
multi-turn          | translate   translate   translate   translate   translate   relay       translate
emoji               | translate   translate   translate   translate   translate   relay       translate
image-data          | translate   translate   translate   translate   translate   relay       translate
image-url           | translate   translate   translate   translate   refuse 1    refuse 1    refuse 1
one-tool            | absent 2    absent 2    absent 2    absent 2    absent 2    absent 2    absent 2
parallel-tools      | absent 2    absent 2    absent 2    absent 2    absent 2    absent 2    absent 2
tool-no-arguments   | absent 2    absent 2    absent 2    absent 2    absent 2    absent 2    absent 2
result-by-id        | absent 2    absent 2    absent 2    absent 2    absent 2    absent 2    absent 2
result-by-name      | absent 2    absent 2    absent 2    absent 2    absent 2    absent 2    absent 2
result-by-neither   | absent 2    absent 2    absent 2    absent 2    absent 2    absent 2    absent 2
think-off           | translate   translate   translate   translate   lossy 14    relay       translate
think-on            | translate   translate   translate   translate   translate   relay       translate
think-level         | translate   translate   translate   translate   translate   relay       translate
thinking-with-tools | absent 2    absent 2    absent 2    absent 2    absent 2    absent 2    absent 2
foreign-thoughts    | absent 2    absent 2    absent 2    absent 2    absent 2    absent 2    absent 2
json                | translate   translate   translate   lossy 11    translate   relay       translate
schema              | translate   translate   translate   translate   translate   relay       translate
stop-text           | translate   translate   translate   translate   translate   relay       translate
length              | translate   lossy 18    translate   translate   translate   relay       translate
refusal             | lossy 6     lossy 6     lossy 6     lossy 6     lossy 6     absent 7    absent 3
logprobs            | translate   translate   translate   lossy 12    translate   relay       translate
cached-usage        | lossy 8     lossy 8     lossy 8     lossy 8     lossy 8     absent 9    absent 3
no-usage            | translate   translate   translate   translate   translate   relay       absent 3
empty               | translate   translate   translate   translate   translate   relay       absent 3
status-400          | translate   translate   translate   translate   translate   translate   absent 10
status-401          | translate   translate   translate   translate   translate   translate   absent 10
status-403          | translate   translate   translate   translate   translate   translate   absent 10
status-404          | translate   translate   translate   translate   translate   translate   absent 10
status-429          | translate   translate   translate   translate   translate   translate   absent 10
status-500          | translate   translate   translate   translate   translate   translate   absent 10
status-529          | translate   translate   translate   translate   translate   translate   absent 10
error-midway        | translate   translate   translate   translate   translate   translate   absent 10
cut-midway          | translate   translate   translate   translate   translate   translate   absent 10
stall               | translate   translate   translate   translate   translate   translate   absent 10
""",
    "v1": """
                    | openai      responses   huggingface anthropic   gemini      ollama      echo
text                | relay       translate   relay       translate   translate   translate   translate
system              | relay       translate   relay       translate   translate   translate   translate
multi-turn          | relay       translate   relay       translate   translate   translate   translate
emoji               | relay       translate   relay       translate   translate   translate   translate
image-data          | relay       translate   relay       translate   translate   translate   translate
image-url           | relay       translate   relay       translate   refuse 1    refuse 1    refuse 1
one-tool            | relay       translate   relay       translate   translate   translate   translate
parallel-tools      | relay       translate   relay       translate   translate   translate   absent 3
tool-no-arguments   | relay       translate   relay       translate   translate   translate   translate
result-by-id        | relay       translate   relay       translate   translate   translate   translate
result-by-name      | refuse 4    translate   refuse 4    translate   translate   translate   translate
result-by-neither   | refuse 4    translate   refuse 4    translate   translate   translate   translate
think-off           | relay       translate   relay       translate   lossy 14    translate   translate
think-on            | relay       translate   relay       translate   translate   translate   translate
think-level         | relay       translate   relay       translate   translate   translate   translate
thinking-with-tools | relay       translate   relay       translate   translate   translate   translate
foreign-thoughts    | relay       lossy 17    relay       lossy 16    lossy 15    translate   translate
json                | relay       translate   relay       lossy 11    translate   translate   translate
schema              | relay       translate   relay       translate   translate   translate   translate
stop-text           | relay       translate   relay       translate   translate   translate   translate
length              | relay       lossy 18    relay       translate   translate   translate   translate
refusal             | relay       lossy 13    relay       lossy 13    lossy 13    absent 7    absent 3
logprobs            | relay       translate   relay       lossy 12    translate   translate   translate
cached-usage        | relay       translate   relay       translate   translate   absent 9    absent 3
no-usage            | relay       translate   relay       translate   translate   translate   absent 3
empty               | relay       translate   relay       translate   translate   translate   absent 3
status-400          | translate   translate   translate   translate   translate   translate   absent 10
status-401          | translate   translate   translate   translate   translate   translate   absent 10
status-403          | translate   translate   translate   translate   translate   translate   absent 10
status-404          | translate   translate   translate   translate   translate   translate   absent 10
status-429          | translate   translate   translate   translate   translate   translate   absent 10
status-500          | translate   translate   translate   translate   translate   translate   absent 10
status-529          | translate   translate   translate   translate   translate   translate   absent 10
error-midway        | translate   translate   translate   translate   translate   translate   absent 10
cut-midway          | translate   translate   translate   translate   translate   translate   absent 10
stall               | translate   translate   translate   translate   translate   translate   absent 10
""",
}


@dataclass(frozen=True)
class Note:
    """`what`: what is lost, the text of the refusal, or why it is absent. `source`: who says so. `lost`: the one thing
    that a lossy cell may lack, in the words of doors.Ask and doors.Heard. `dropped`: how X-Bridge-Dropped calls it, ""
    where it is the answer or the history that lacks something. `words`: for users, where `what` alone would not do."""

    what: str
    source: str
    lost: str = ""
    dropped: str = ""
    words: str = ""


NOTES = {
    1: Note(
        "not a public address",
        "house.md 2, fetch.py",
        words="these fetch no pictures: the gateway does, from public addresses alone, and says that this one is none",
    ),
    2: Note("generate knows no tools and no messages", "ollama-protocol.md 2.3"),
    3: Note("the echo model gives back what it was sent; it has no other answer", "product.md 2, echo"),
    4: Note(
        "tool_calls",
        "OpenAI's own 400 (providers.md 3.4)",
        words="OpenAI's wire wants an id on every call and result; what a client of that wire says is relayed as it is",
    ),
    5: Note(
        "thoughts of earlier turns", "OpenAI's wire has no field for them (providers.md 3.1, thinking in history)",
        lost="thinking",
    ),
    6: Note("that the text is a refusal", "Ollama's wire has one text field (providers.md 3.5)", lost="refusal"),
    7: Note("Ollama's wire knows no refusals", "ollama-protocol.md 2.4"),
    8: Note(
        "how many prompt tokens were cached", "Ollama's wire has two counts (ollama-protocol.md 2.4)", lost="cached"
    ),
    9: Note("a real Ollama reports no cached tokens", "ollama-protocol.md 2.4"),
    10: Note("the echo model has no failures", "product.md 2, echo"),
    11: Note(
        "that it is held to JSON", "Claude has no JSON mode: it is asked for in words (providers.md 2.4, 3.1)",
        lost="format", dropped="format",
    ),
    12: Note("log probabilities", "Claude tells none (providers.md 3.1)", lost="logprobs", dropped="logprobs"),
    13: Note(
        "that the text is a refusal", "the finish reason says so, the text is text (providers.md 3.5)", lost="refusal"
    ),
    14: Note(
        "that it shall not think", "Gemini 3 and later cannot be switched off (providers.md 2.6)",
        lost="think", dropped="think",
    ),
    15: Note(
        "thoughts of another model", "Gemini takes back signed calls, no bare thoughts (providers.md 3.1)",
        lost="thinking",
    ),
    16: Note(
        "thoughts of another model", "Claude takes back signed thoughts alone (providers.md 2.4, 3.1)", lost="thinking"
    ),
    17: Note(
        "thoughts of another model", "this API takes back its own sealed reasoning alone (providers.md 2.3)",
        lost="thinking",
    ),
    18: Note(
        "a limit below 16 tokens, which is raised to that",
        "the API refuses less: integer_below_min_value (its own error, as in vectorize-io/hindsight issue 58)",
        lost="max_tokens", dropped="max_tokens",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """`word` is one of WORDS; `note` (of NOTES, by number) is there for all but relay and translate."""

    word: str
    number: int | None = None

    @property
    def note(self) -> Note:
        assert self.number is not None
        return NOTES[self.number]

    def lacks(self, what: str) -> bool:
        """Whether `what` is the one thing that is lost here."""
        return self.word == "lossy" and self.note.lost == what


def read_table(door: str, text: str) -> dict[tuple[str, str, str], Cell]:
    """(door, provider, scenario) -> cell. Raises ValueError for a malformed row or a cell without its reason."""
    cells: dict[tuple[str, str, str], Cell] = {}
    head, *rows = text.strip().splitlines()
    providers = head.partition("|")[2].split()
    for row in rows:
        scenario, _, group = (part.strip() for part in row.partition("|"))
        if (door, providers[0], scenario) in cells:
            raise ValueError(f"{scenario} stands twice")
        for provider, cell in zip(providers, read_cells(scenario, group), strict=True):
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
        number = int(words.pop(0)) if words and words[0].isdigit() else 0
        note = NOTES.get(number)
        if note is None or not note.what or not note.source or (word == "lossy" and not note.lost):
            raise ValueError(f"{scenario}: '{word}' without a reason")
        cells.append(Cell(word, number))
    return cells


SUPPORT = {place: cell for door, text in TABLES.items() for place, cell in read_table(door, text).items()}
