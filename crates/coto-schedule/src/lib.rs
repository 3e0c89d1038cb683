//! Activation schedules of CoTo, CopRA and stochastic depth: the curves p(t), layer profiles and the sampler of coalitions.
