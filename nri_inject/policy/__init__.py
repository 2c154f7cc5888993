"""The policy: rules, the items that they decide on, decisions, and the audit.

`items` says what an adjustment gives, with `device_items` and `mount_items` for what is the host's.
`rules` and `kinds` decide, `permit` holds one request against the policy, `settle` makes the
adjustment that is left, `document` and `source` read the admin's file, `audit` writes down.
This room knows neither CDI specs nor hook files.
"""
