"""`llmrec run`: the stages of a recipe, each cached under a hash of all that its result depends on."""
