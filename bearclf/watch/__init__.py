"A model at work: frames of a film, a log of all it says, a report, steps forward and back, and people who confirm."
