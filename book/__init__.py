"""The book: a site made of docs/ and of rope_ref itself, so that neither can say what the other does not do.

1. ``hooks``     what MkDocs calls while it builds: pages are made, examples run, links followed
2. ``mathml``    the plain notation of docstrings, as mathematics
3. ``prose``     docstrings as prose and mathematics
4. ``examples``  code of the pages, executed
5. ``variants``  one page a variant
6. ``related``   what a variant shares with others: its parent, the models that use it, the bugs it met
7. ``figures``   of every variant, and of angles
8. ``opening``   the picture that the README and the book open with
9. ``tables``    the numbers of the interactive page
10. ``links``    where links go
"""
