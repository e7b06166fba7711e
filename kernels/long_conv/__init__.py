"""Causal convolutions with filters as long as the row, within documents.

    y_t = sum over s <= t of h_{t-s} u_s

    y_BTE = long_conv(u_BSE, h_LE, starts_BS, offset, length)

Each channel has a filter (Hyena). A head of multi-head Hyena has one for all
products of a key with a value; a query then takes one sum for each value:

    y_t = sum over s <= t of h_{t-s} (k_s v_s^T)^T q_t

    y_BTNV = head_conv(q_BTNK, k_BSNK, v_BSNV, h_LN, starts_BS, offset)

    h: of lags from 0, at least as many as there are slots S.
    starts_BS: where a document begins: nothing from before reaches it. None:
      the row is one document.
    offset, length: outputs are those of `length` slots from `offset` on, which
      may be traced; 0: of all. Earlier slots are what decoding has kept.

Everything is computed in fp32. Choose through `kernels.dispatch`.
"""
