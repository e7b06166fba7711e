"""The selective state space of Mamba (Gu and Dao 2023, arXiv:2312.00752).

    h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t,    y_t = C_t . h_t

for each of E channels, with N numbers of state: A_EN is fixed, dt_t is the
channel's, B_t and C_t are shared by all.

    y_BTE, state_BEN = selective_scan(x_BTE, dt_BTE, A_EN, B_BTN, C_BTN,
      starts_BT, state_BEN)

Documents and precision are as in `kernels/linear_scan`.
"""
