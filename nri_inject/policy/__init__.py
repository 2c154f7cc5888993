"""Who may inject what: rules, what they are held against, and the decisions."""
