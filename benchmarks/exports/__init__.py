"""What an exported concept does in a stock diffusers pipeline, by format and rank."""
