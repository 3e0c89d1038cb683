use burn::tensor::Device;

use crate::Error;

/// The device of a name: `cpu`, `wgpu` or `cuda`, the last two with an optional number as in `cuda:1`.
///
/// # Errors
/// [`Error::Device`] for a name that is none of these or that this build has no feature for.
pub fn parse_device(name: &str) -> Result<Device, Error> {
    let wrong = |reason| Error::Device {
        name: name.to_owned(),
        reason,
    };
    let (kind, number) = match name.split_once(':') {
        None => (name, None),
        Some((kind, number)) => {
            let number = number.parse::<usize>();
            (
                kind,
                Some(number.map_err(|_| wrong("after the colon comes a number"))?),
            )
        }
    };
    match kind {
        "cpu" if number.is_some() => Err(wrong("there is one `cpu`, without a number")),
        #[cfg(feature = "flex")]
        "cpu" => Ok(Device::flex()),
        #[cfg(feature = "wgpu")]
        "wgpu" => Ok(Device::wgpu(match number {
            None => burn::tensor::DeviceKind::DefaultDevice,
            Some(index) => burn::tensor::DeviceKind::DiscreteGpu(index),
        })),
        #[cfg(feature = "cuda")]
        "cuda" => Ok(Device::cuda(number.unwrap_or(0))),
        known if ["cpu", "wgpu", "cuda"].contains(&known) => Err(wrong(
            "this build lacks it: compile with the feature of that name (`flex` for `cpu`)",
        )),
        _ => Err(wrong("there are `cpu`, `wgpu[:n]` and `cuda[:n]`")),
    }
}
