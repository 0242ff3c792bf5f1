"""Pages and cards: templates, their style, and pictures of clips for them."""
