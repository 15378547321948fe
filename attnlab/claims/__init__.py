"""Claims about attention: their studies are trained, their effects estimated, and their verdicts computed."""
