"""The sentences that are searched and the queries that show the search off.

All of them were written for this demo. `corpus.txt` holds one sentence a line.
"""

from __future__ import annotations

from pathlib import Path

# Query and the sentence that must come first.
EXAMPLES: tuple[tuple[str, str], ...] = (
    (
        "what makes GPUs quick",
        "Graphics cards are fast because they do many small calculations at once.",
    ),
    (
        "Which animal navigates by sound?",
        "Bats find their way in the dark by listening to echoes of their own calls.",
    ),
    (
        "how do I get rid of a wine stain",
        "To remove red wine from a carpet, blot it first and then use sparkling water.",
    ),
    (
        "first aid for scalded skin",
        "To treat a burn, hold it under cool running water for ten minutes.",
    ),
    (
        "I can't find my house keys",
        "I lost my keys somewhere between the office and home.",
    ),
)


def load_sentences() -> list[str]:
    """Every sentence, in the file's order."""
    path = Path(__file__).with_name("corpus.txt")
    return path.read_text(encoding="utf-8").splitlines()
