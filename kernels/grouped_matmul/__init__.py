"""Grouped matmul: each run of rows by a matrix of its own.

    y = grouped_matmul(x_MD, w_EDF, sizes_E)

Rows are sorted by group: the first sizes[0] are multiplied by w[0], the next
sizes[1] by w[1]; rows beyond the last group give 0. Mixtures of experts call
it with the tokens of each expert (Gale et al. 2022, arXiv:2211.15841).
"""
