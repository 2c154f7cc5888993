"""The policy: rules, the items that they decide on, decisions, and the audit.

`items` says what an adjustment gives, with `device_items` and `mount_items` for what is the host's.
`kinds` has the entries of rules, with `device_entries` and `mount_entries`: records that compare
themselves with an item. `rules` finds the first rule that matches, `permit` holds one request
against the policy, `settle` makes the adjustment that is left, `document` and `source` read the
admin's file, `kept` has its last good version, `audit` writes decisions down.
This room knows neither CDI specs nor hook files.
"""
