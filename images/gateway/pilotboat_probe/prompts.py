"""The prompts that are used where a config has none: short, general, each with much to go wrong in the answer.

Owns: the prompts. Must not know: what is asked of them.
"""

PROMPTS = (
    "Name the four seasons of the year in order, starting with spring.",
    "What is 17 times 24? Show each step, then give the result.",
    "Explain in two sentences why the sky is blue.",
    "Translate into French: The ship arrives in port tomorrow morning.",
    "Write a Python function that returns the largest even number of a list, or None.",
    "List three differences between a virus and a bacterium.",
    "A train leaves at 14:35 and takes 2 hours and 50 minutes. When does it arrive?",
    "Summarise in one sentence: The meeting was moved from Monday to Thursday because the room was flooded.",
    "Give the chemical formulas of water, table salt and carbon dioxide.",
    "Answer with JSON that has the keys name and age: Maria is thirty-four years old.",
    "Which planet of the solar system is the largest, and roughly how many Earths would fit into it?",
    "Correct the grammar of this sentence: Him and me was going to the market yesterday.",
    "Write a haiku about fog over a harbour.",
    "Sort these words by the alphabet: pear, apple, fig, banana, cherry.",
    "Is the review positive or negative? The food was cold and the waiter ignored us.",
    "Explain to a child of ten what an interest rate is.",
    "Write an SQL query that counts the orders of each customer in the year 2024.",
    "If all squares are rectangles and no rectangle is round, can a square be round? Answer and say why.",
    "Write a short, polite e-mail that declines an invitation to dinner on Friday.",
    "Continue the sequence with three more numbers: 2, 3, 5, 8, 13.",
)
