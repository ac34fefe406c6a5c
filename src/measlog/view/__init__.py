"""How things look: text, tables, JSON documents."""
