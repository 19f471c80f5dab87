"""Exercises of chapter 00, Start here."""

from .kinds import WholeNumber, Word

EXERCISES = {
    "0.1": Word(
        hint="the source is the task that has plenty of data and gives its knowledge away.",
        right="word recognition",
        wrong={
            "parkinson detection": "that is the target: it has 200 recordings and receives "
            "the knowledge.",
            "both": "the two tasks have different roles: one gives, one receives.",
            "speech": "name the task, not the kind of data.",
        },
    ),
    "0.2": Word(
        hint="look at the two intervals, and at who was tested.",
        right="cannot say",
        wrong=dict.fromkeys(
            ("yes", "a"),
            "0.89 lies inside A's interval and 0.91 inside B's: the difference may be chance.",
        )
        | {
            "no": "A may well be better: no evidence of a difference is not evidence of "
            "no difference."
        },
    ),
    "0.3": WholeNumber(
        hint="a whole number. Which set is for choosing?",
        right=0,
        wrong={
            20: "then the test set has chosen, and its number is too good: choose on validation.",
            1: "one look at the chosen model comes after choosing; before it, none.",
            19: "every look before choosing lets the test set choose.",
        },
    ),
}
