"""Speed of the CPU kernels, as ratios taken in one run: rope-ref bench.

Read in this order:

1. ``timing``      calls in turn, and what is made of their times
2. ``rows``        a section of the result: its jobs, their rows, what each row holds
3. ``cases``       tensors and tables to rotate, and whether a result is right
4. ``formulas``    what others write in torch's own operations
5. ``kernels``     against the speed of memory, by size, dtype, shape and strides
6. ``tables``      what other tables cost, and rows that are gathered
7. ``calls``       forward and backward; what one call saves over several
8. ``peers``       other implementations, made ready
9. ``against``     the kernels against them; one decoded token
10. ``by_hand``    the rotation in C, compiled where there is a compiler
11. ``hand``       the kernels against it
12. ``scaling``    threads, and long sequences
13. ``start``      the first call ever, and the import
14. ``machine``    where it was measured
15. ``report``     tables on a terminal, JSON, a chart
16. ``command``    the command line
"""
