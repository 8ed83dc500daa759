"""Speed of the CPU kernels, as ratios taken in one run: rope-ref bench.

Read in this order:

1. ``timing``      calls in turn, and what is made of their times
2. ``rows``        a section of the result: its jobs, their rows, what each row holds
3. ``cases``       tensors and tables to rotate
4. ``kernels``     against the speed of memory, by size, dtype, shape and strides
5. ``tables``      what other tables cost, and rows that are gathered
6. ``calls``       one decoded token; forward and backward; what one call saves over several
7. ``peers``       other implementations
8. ``scaling``     threads, and long sequences
9. ``start``       the first call ever, and the import
10. ``machine``    where it was measured
11. ``report``     tables on a terminal, JSON, a chart
12. ``command``    the command line
"""
