"""The prompts that are used where a config has none: short, general, each with much to go wrong in the answer.

Owns: the prompts, and a right answer to each. Must not know: what is asked of them.
"""

from pilotboat.api.probing import Reference

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

_ANSWERS = (
    "Spring, summer, autumn, winter.",
    "17 times 20 is 340 and 17 times 4 is 68. Together that is 408.",
    "Sunlight is scattered by the molecules of the air, and blue light far more than red. So blue light "
    "reaches us from every part of the sky.",
    "Le bateau arrive au port demain matin.",
    "def largest_even(numbers):\n    return max((n for n in numbers if n % 2 == 0), default=None)",
    "A bacterium is a living cell, a virus is not. A bacterium multiplies by itself, a virus only inside a "
    "cell. Antibiotics act against bacteria, not against viruses.",
    "It arrives at 17:25.",
    "Because the room was flooded, the meeting was moved from Monday to Thursday.",
    "Water is H2O, table salt is NaCl, and carbon dioxide is CO2.",
    '{"name": "Maria", "age": 34}',
    "Jupiter is the largest planet, and about 1,300 Earths would fit into it.",
    "He and I were going to the market yesterday.",
    "Grey veil on the quay,\na horn calls where no ship shows.\nGulls wait for the wind.",
    "apple, banana, cherry, fig, pear",
    "Negative: the food was cold and the service was poor.",
    "If you lend somebody money, he gives you back a little more than he got. The interest rate says how much "
    "more that is for each hundred.",
    "SELECT customer_id, COUNT(*) FROM orders WHERE order_date >= '2024-01-01' AND order_date < '2025-01-01' "
    "GROUP BY customer_id;",
    "No. Every square is a rectangle and no rectangle is round, so no square can be round.",
    "Dear Anna, thank you very much for the invitation to dinner on Friday. I am sorry that I cannot come, "
    "and I hope to see you soon. Best wishes, Tom",
    "21, 34, 55",
)

REFERENCES = tuple(Reference(prompt=prompt, answer=answer) for prompt, answer in zip(PROMPTS, _ANSWERS, strict=True))
