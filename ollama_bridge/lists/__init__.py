"""What services say they have, and what it costs: asked for beside the answers, kept on disk."""
