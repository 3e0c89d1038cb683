//! The fast forms as a backend extension: what dispatches a tensor to the CPU backend, tracked or not.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::{BoolTensor, FloatTensor};
use burn::backend::{Autodiff, AutodiffBackend, Backend, Flex, backend_extension};

use crate::gelu::Phi;
use crate::memory::dense;
use crate::weight::Matrix;
use crate::{attention, gated, gelu, hadamard, linear, loss, norm, rotary};

/// Documented at the public functions. The macro knows no optional tensors: one without elements stands for none.
#[backend_extension(Autodiff, Flex)]
pub(crate) trait KernelOps: Backend {
    fn gelu(x: FloatTensor<Self>, phi: Phi) -> FloatTensor<Self>;

    fn gated_silu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;

    fn rotate(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    fn norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
        centred: bool,
    ) -> FloatTensor<Self>;

    fn residual_norm(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self>;

    fn dequantise(#[extension_type] weight: Matrix<Self>) -> FloatTensor<Self>;

    fn frozen_linear(
        x: FloatTensor<Self>,
        #[extension_type] weight: Matrix<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    fn low_rank_linear(
        x: FloatTensor<Self>,
        #[extension_type] weight: Matrix<Self>,
        bias: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self>;

    fn hadamard_linear(
        x: FloatTensor<Self>,
        #[extension_type] weight: Matrix<Self>,
        bias: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        shift: f32,
    ) -> FloatTensor<Self>;

    fn losses(
        states: FloatTensor<Self>,
        #[extension_type] weight: Matrix<Self>,
        targets: Vec<u32>,
    ) -> FloatTensor<Self>;

    fn fused_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        blocked: BoolTensor<Self>,
        rows: usize,
        heads: usize,
    ) -> FloatTensor<Self>;
}

impl KernelOps for Flex {
    fn gelu(x: FloatTensor<Self>, phi: Phi) -> FloatTensor<Self> {
        gelu::forward(x, phi)
    }

    fn gated_silu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        gated::forward(gate, up)
    }

    fn rotate(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        rotary::turn(x, &dense(cos), &dense(sin), 1.0)
    }

    fn norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
        centred: bool,
    ) -> FloatTensor<Self> {
        norm::forward(x, gamma, beta, epsilon, centred)
    }

    fn residual_norm(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        norm::residual_forward(x, y, gamma, beta, epsilon)
    }

    fn dequantise(weight: Matrix<Self>) -> FloatTensor<Self> {
        weight.dequantise()
    }

    fn frozen_linear(
        x: FloatTensor<Self>,
        weight: Matrix<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        linear::forward(&x, &weight, &bias)
    }

    fn low_rank_linear(
        x: FloatTensor<Self>,
        weight: Matrix<Self>,
        bias: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        linear::low_rank_forward(&x, &weight, &bias, &a, &b, scale).0
    }

    fn hadamard_linear(
        x: FloatTensor<Self>,
        weight: Matrix<Self>,
        bias: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        shift: f32,
    ) -> FloatTensor<Self> {
        hadamard::forward(x, weight, &bias, [a, b], shift)
    }

    fn losses(
        states: FloatTensor<Self>,
        weight: Matrix<Self>,
        targets: Vec<u32>,
    ) -> FloatTensor<Self> {
        loss::forward(&states, &weight, &targets)
    }

    fn fused_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        blocked: BoolTensor<Self>,
        rows: usize,
        heads: usize,
    ) -> FloatTensor<Self> {
        attention::forward(q, k, v, blocked, rows, heads)
    }
}

impl<C: CheckpointStrategy> KernelOps for Autodiff<Flex, C> {
    fn gelu(x: FloatTensor<Self>, phi: Phi) -> FloatTensor<Self> {
        gelu::tracked::<C>(x, phi)
    }

    fn gated_silu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        gated::tracked::<C>(gate, up)
    }

    fn rotate(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        rotary::tracked::<C>(x, cos, sin)
    }

    fn norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
        centred: bool,
    ) -> FloatTensor<Self> {
        norm::tracked::<C>(x, gamma, beta, epsilon, centred)
    }

    fn residual_norm(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        norm::residual_tracked::<C>(x, y, gamma, beta, epsilon)
    }

    fn dequantise(weight: Matrix<Self>) -> FloatTensor<Self> {
        Self::from_inner(weight.into_inner().dequantise())
    }

    fn frozen_linear(
        x: FloatTensor<Self>,
        weight: Matrix<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        linear::tracked::<C>(x, weight, bias)
    }

    fn low_rank_linear(
        x: FloatTensor<Self>,
        weight: Matrix<Self>,
        bias: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        linear::low_rank_tracked::<C>(x, weight, bias, a, b, scale)
    }

    fn hadamard_linear(
        x: FloatTensor<Self>,
        weight: Matrix<Self>,
        bias: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        shift: f32,
    ) -> FloatTensor<Self> {
        hadamard::tracked::<C>(x, weight, bias, [a, b], shift)
    }

    fn losses(
        states: FloatTensor<Self>,
        weight: Matrix<Self>,
        targets: Vec<u32>,
    ) -> FloatTensor<Self> {
        loss::tracked::<C>(states, weight, &targets)
    }

    fn fused_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        blocked: BoolTensor<Self>,
        rows: usize,
        heads: usize,
    ) -> FloatTensor<Self> {
        attention::tracked::<C>(q, k, v, blocked, rows, heads)
    }
}
