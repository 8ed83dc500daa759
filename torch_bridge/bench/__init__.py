"""Speed of the CPU kernels, as ratios taken in one run: rope-ref bench.

Read in this order:

1. ``timing``      calls in turn, and what is made of their times
2. ``rows``        a section of the result: its jobs, their rows, what each row holds
3. ``cases``       tensors and tables to rotate, and whether a result is right
4. ``formulas``    what others write in torch's own operations
5. ``kernels``     against the speed of memory, by size, dtype, shape and strides
6. ``tables``      what other tables cost, and rows that are gathered
7. ``model``       what a model calls for one token
8. ``calls``       forward and backward; what one call saves over several
9. ``norm``        normalisation and rotation in one pass
10. ``peers``      other implementations, made ready
11. ``against``    the kernels against them; one decoded token
12. ``by_hand``    the rotation in C, compiled where there is a compiler
13. ``hand``       the kernels against it
14. ``scaling``    threads, and long sequences
15. ``pools``      torch's threads beside Numba's
16. ``start``      the first call ever, and the import
17. ``machine``    where it was measured
18. ``report``     tables on a terminal, JSON, a chart
19. ``command``    the command line
"""
