"""The math: counts of the stream, the neural interest model, the engine that applies both, and the learner."""
