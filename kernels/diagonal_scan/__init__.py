"""The recurrence of single numbers, each with a decay of its own.

    h_t = a_t h_{t-1} + b_t

    h_BTX, state = diagonal_scan(a_BTX, b_BTX, starts_BT, state_BX)

RG-LRU, minGRU, RWKV-4; S4D, whose a and h are complex. Where a document begins
(`starts_BT`) h_{t-1} counts as 0. Everything is computed in fp32, or in its
complex numbers. Choose through `kernels.dispatch`.
"""
