//! The algebra of adapters: fusion (A and B averaged) and mixture (the weight changes averaged).
