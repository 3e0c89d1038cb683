//! What a finished run left in its folder.

use std::path::Path;

use burn::tensor::Device;
use coto_adapters::AdapterSet;
use coto_models::{Layered, Model};
use coto_peft::Folder;

use crate::{Error, Head, Readout, Run, RunConfig, Split, Task};

/// The file of a run's classifier.
pub(crate) const HEAD: &str = "head.safetensors";

impl Run {
    /// A finished run, from its folder; on another device than its own if one is named.
    ///
    /// # Errors
    /// For files that are missing, broken or of another model.
    pub fn finished(folder: &Path, device: Option<&str>) -> Result<Self, Error> {
        let mut config = RunConfig::load(&folder.join("run.toml"), &[])?;
        folder.clone_into(&mut config.out);
        if let Some(device) = device {
            device.clone_into(&mut config.device);
        }
        let (device, model, task) = Self::parts(&config)?;
        let readout = saved_readout(&folder.join(HEAD), &model, task.as_ref(), &device)?;
        let mut run = Self::new(&config, device, model, task, Some(readout))?;
        run.adapters = run.adapters_of(&folder.join("adapter"))?;
        Ok(run)
    }

    /// Takes the adapters and the head that a finished run wrote.
    ///
    /// # Errors
    /// For files that are missing, broken or of another model.
    pub fn load_result(&mut self) -> Result<(), Error> {
        self.adapters = self.adapters_of(&self.path("adapter"))?;
        let head = self.path(HEAD);
        self.readout = saved_readout(&head, &self.model, self.task.as_ref(), &self.device)?;
        Ok(())
    }

    /// The adapters of a PEFT folder on the run's model, grouped as the run's are.
    ///
    /// # Errors
    /// For a folder that is missing, broken or of another model.
    pub fn adapters_of(&self, folder: &Path) -> Result<AdapterSet, Error> {
        self.adapters_from(&Folder::load(folder)?)
    }

    /// The adapters of a PEFT folder in memory on the run's model, grouped as the run's are. Modules, ranks and scales are the
    /// folder's own; where it adapts no module of a layer there is no player of that layer.
    ///
    /// # Errors
    /// For a folder that contradicts itself or is of another model.
    pub fn adapters_from(&self, folder: &Folder) -> Result<AdapterSet, Error> {
        let players = &self.config.players;
        Ok(AdapterSet::from_folder(&self.model, folder, players)?)
    }

    /// What reads the states in the run of a folder, whose model and task are this run's.
    ///
    /// # Errors
    /// For a classifier that is missing, broken or of another shape.
    pub fn readout_of(&self, folder: &Path) -> Result<Readout, Error> {
        let head = folder.join(HEAD);
        saved_readout(&head, &self.model, self.task.as_ref(), &self.device)
    }
}

/// What reads a model's states, the classifier from its file.
fn saved_readout(
    head: &Path,
    model: &Model,
    task: &dyn Task,
    device: &Device,
) -> Result<Readout, Error> {
    match (task.labels(), model) {
        ([], _) => Ok(Readout::Tokens),
        (_, Model::Clip(_)) => Ok(Readout::Prompts),
        (labels, _) => {
            // The features' width is the same whatever the layers did.
            let input = task.batch(Split::Train, &vec![vec![0]], device)?.input;
            let [_, d] = model.head(model.embed(&input), &input).dims();
            let head = Head::load(head, d, labels.len(), device)?;
            Ok(Readout::Classes(head.into()))
        }
    }
}
