"""The settings.

`declarations` has what there is, `table` what README and messages say of it, `sources` where it comes from.
`values` and `urls` read one setting; `checks` and `accounts` compare several; `invalid` and `doubts` say what is wrong.
`settings` is the result, `roles` says which process needs what.
"""
