"""The gated linear recurrence: one algorithm under many mixers.

    S_t = diag(exp(g_t)) S_{t-1} + k_t v_t^T,    o_t = S_t^T q_t

for each head: linear attention (g = 0), RetNet and Mamba-2 (one g a head), GLA
and RWKV-5 and 6 (one for each channel of k), mLSTM. With a bonus u, RWKV's:

    o_t = (S_{t-1} + diag(u) k_t v_t^T)^T q_t

    o_BTNV, state = linear_scan(q_BTGK, k_BTGK, v_BTNV, g, starts_BT, state)

    g: log of the decay, 0 or less: g_BTN1 for each head, g_BTNK for each
      channel. No decay is stronger than exp(`FLOOR`), which in fp32 leaves
      nothing of a state.
    starts_BT: where a document begins; there S_{t-1} counts as 0.
    state_BNKV: fp32, before the first token and after the last.
    bonus_NK: None: o_t sees S_t.

G heads of q and k may each serve N / G heads of v and g. Everything is computed
in fp32. Choose through `kernels.dispatch`.
"""

# exp(-20) = 2e-9 is below fp32's 6e-8; sums of logs of a chunk stay exact to
# 1e-4 even where every token forgets all.
FLOOR = -20.0
