"""The delta rule with decays: one algorithm under DeltaNet and RWKV-7.

    S_t = (diag(exp(g_t)) + b_t a_t^T) S_{t-1} + k_t v_t^T,    o_t = S_t^T q_t

for each head. DeltaNet writes the part of a value that its key does not give
yet, S_t = S_{t-1} + beta_t k_t (v_t - S_{t-1}^T k_t)^T: a_t = -k_t, and beta_t
k_t is both b_t and k_t. Gated, a_t is times the decay. RWKV-7 removes by other
vectors than it writes by.

    o_BTNV, state = delta_rule(q_BTNK, k_BTNK, v_BTNV, g, a_BTNK, b_BTNK,
      starts_BT, state)

    least: no g is less. Where a chunk of such decays leaves something, RWKV-7's
      exp(-0.61) for one, a form by chunks needs no blocks within it.

Decays, documents, states and precision are as in `kernels/linear_scan`.
"""
